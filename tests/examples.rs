//! The configs in `examples/`: all plan, and their notes say what they are.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use burn_flex::Flex;
use mixlab_burn::blocks::Block;
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use mixlab_burn::weights::layout;

use crate::docs::root;

/// Names of the files in `examples/` that end in `.{extension}`, without that.
fn names(extension: &str) -> BTreeSet<String> {
    let files = fs::read_dir(root().join("examples")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let matching = paths.filter(|path| path.extension().is_some_and(|e| e == extension));
    matching.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// Examples whose blocks exist.
const PLANNED: [&str; 6] =
    ["bigram_plain", "depth_recurrent", "gpt2_small", "gqa_8h4kv", "plain_3L", "softcap_plain"];

fn examples() -> Vec<String> {
    names("json").into_iter().filter(|name| PLANNED.contains(&name.as_str())).collect()
}

fn plan(name: &str) -> Result<Arc<Plan>, String> {
    let path = root().join("examples").join(format!("{name}.json"));
    let planned = Plan::read(&path.display().to_string(), &[]).map_err(|e| e.to_string())?;
    match planned.plan.name == name {
        true => Ok(Arc::new(planned.plan)),
        false => Err(format!("{name}.json: its `name` is `{}`", planned.plan.name)),
    }
}

fn parameters<M: burn::module::Module<Flex>>(module: &M) -> usize {
    layout(module).iter().map(|weight| weight.len()).sum()
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

/// How a note states the size of a model.
fn size(plan: &Arc<Plan>) -> String {
    let device = Default::default();
    let model: Model<Flex> = Model::new(plan.clone(), &device);
    let unique = parameters(&model);
    let shared = plan.steps.iter().enumerate().filter(|(index, step)| step.owner != *index);
    let repeated: usize = shared.map(|(_, step)| parameters(&step.block.init(&device))).sum();
    let text = format!("{} parameters in {} weights", grouped(unique), layout(&model).len());
    match repeated {
        0 => text,
        _ => format!("{text} ({} if no weights were shared)", grouped(unique + repeated)),
    }
}

fn note(name: &str) -> String {
    let path = root().join("examples").join(format!("{name}.md"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs `check` on every example and reports all failures together.
fn every_example(check: impl Fn(&str, Arc<Plan>) -> Result<(), String>) {
    let check = |name: &String| plan(name).and_then(|plan| check(name, plan)).err();
    let failures: Vec<_> = examples().iter().filter_map(check).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_example_plans() {
    assert!(!examples().is_empty());
    every_example(|_, _| Ok(()));
}

#[test]
fn the_note_of_each_example_states_its_size() {
    every_example(|name, plan| match size(&plan) {
        size if note(name).contains(&size) => Ok(()),
        size => Err(format!("{name}.md does not say `{size}`")),
    });
}

#[test]
fn every_example_has_a_note_with_its_command_and_a_line_in_the_list() {
    let mut notes = names("md");
    assert!(notes.remove("README"));
    assert_eq!(notes, names("json"));
    let list = note("README");
    for name in names("json") {
        let command = format!("cargo run --release -- arch --config examples/{name}.json");
        assert!(note(&name).contains(&command), "{name}.md lacks `{command}`");
        assert!(list.contains(&format!("[{name}]({name}.md)")), "README.md lacks {name}");
    }
}
