//! Which block uses whose weights: `recurrence` and `weight_group`.

use std::collections::HashMap;

use crate::blocks::Block;
use crate::config::{Config, Problems, Reported};
use crate::weights::{Weight, layout};
use mixlab_ops::capture::Capture;

/// The owner of the weights of each block, by index.
pub fn owners<K: Block>(
    config: &Config,
    blocks: &[Result<K, Reported>],
    problems: &mut Problems,
) -> Vec<usize> {
    let count = blocks.len();
    let mut owners: Vec<usize> = (0..count).collect();
    let recurrence = recurrence(config, count, problems);
    let mut groups: HashMap<&str, usize> = HashMap::new();
    for i in 0..count {
        let repeats = recurrence.as_ref().map_or(i, |r| r[i]);
        if repeats != i {
            owners[i] = owners[repeats];
            check(
                config,
                blocks,
                Sharing { block: i, owner: owners[i], by_group: false },
                problems,
            );
        }
        let group = config.blocks[i].weight_group.as_deref().map(str::trim).unwrap_or("");
        if group.is_empty() {
            continue;
        }
        let owner = *groups.entry(group).or_insert(owners[i]);
        if owner == owners[i] {
            continue;
        }
        if owners[i] != i {
            let message = format!(
                "group `{group}` uses the weights of block `{owner}`, and recurrence those of `{}`",
                owners[i]
            );
            problems
                .error(format!("blocks[{i}].weight_group"), message)
                .hint("share by one of the two, or make them agree");
            continue;
        }
        owners[i] = owner;
        check(config, blocks, Sharing { block: i, owner, by_group: true }, problems);
    }
    owners
}

/// `recurrence` if it is usable: one earlier or equal index for each block.
fn recurrence(config: &Config, count: usize, problems: &mut Problems) -> Option<Vec<usize>> {
    let written = config.recurrence.as_ref()?;
    if problems.is_bad("recurrence") {
        return None;
    }
    if written.len() != count {
        let message = format!("has `{}` entries for `{count}` blocks", written.len());
        problems
            .error("recurrence", message)
            .hint("give each block an entry; its own index means own weights");
        return None;
    }
    let mut usable = Some(Vec::with_capacity(count));
    for (i, &r) in written.iter().enumerate() {
        match usize::try_from(r).ok().filter(|r| *r <= i) {
            Some(r) => usable.iter_mut().for_each(|list| list.push(r)),
            None => {
                problems
                    .error(format!("recurrence[{i}]"), format!("`{r}` is not an index in 0..={i}"))
                    .hint("a block can only repeat itself or an earlier block");
                usable = None;
            }
        }
    }
    usable
}

struct Sharing {
    block: usize,
    owner: usize,
    by_group: bool,
}

/// Both blocks must be of one type and have the same weights; a group also fixes the heads.
fn check<K: Block>(
    config: &Config,
    blocks: &[Result<K, Reported>],
    share: Sharing,
    problems: &mut Problems,
) {
    let Sharing { block, owner, by_group } = share;
    let path = if by_group {
        format!("blocks[{block}].weight_group")
    } else {
        format!("recurrence[{block}]")
    };
    let (spec, first) = (&config.blocks[block], &config.blocks[owner]);
    let who = format!("block `{block}` cannot use the weights of block `{owner}`");
    let hint = "blocks that share weights must have equal weight names and shapes";
    if spec.kind != first.kind {
        let message = format!("{who}: their types are `{}` and `{}`", spec.kind, first.kind);
        problems.error(path, message).hint(hint);
        return;
    }
    let (Ok(a), Ok(b)) = (&blocks[block], &blocks[owner]) else { return };
    if by_group && a.heads() != b.heads() {
        problems.error(path, format!("{who}: their `heads` differ")).hint(hint);
        return;
    }
    if names(a) != names(b) {
        problems.error(path, format!("{who}: their weights differ")).hint(hint);
    }
}

fn names<K: Block>(block: &K) -> Vec<(String, Vec<usize>)> {
    let weights = block.init::<Capture>(&Default::default());
    layout(&weights).into_iter().map(|Weight { name, shape, .. }| (name, shape)).collect()
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use crate::blocks::Builtin;
    use crate::blocks::testing::{errors, planned};

    /// Two blocks of one group, alike but for their heads.
    fn pair(block: &str, heads: [&str; 2]) -> String {
        let one = |heads| format!(r#"{{{block}, "weight_group": "g"{heads}}}"#);
        heads.map(one).join(", ")
    }

    #[test]
    fn a_group_fixes_the_heads_of_types_that_have_some() {
        let heads = [r#", "heads": 2"#, r#", "heads": 4"#];
        let expected = "blocks[1].weight_group: block `1` cannot use the weights of block `0`: their `heads` differ";
        assert_eq!(errors::<Builtin>(&pair(r#""type": "plain""#, heads)), [expected]);
        for block in [r#""type": "swiglu""#, r#""type": "mamba""#, r#""type": "rwkv""#] {
            for heads in [heads, ["", heads[0]]] {
                let plan = planned::<Builtin>(&pair(block, heads)).unwrap().plan;
                assert_eq!(plan.steps[1].owner, 0, "{block}");
            }
        }
    }
}
