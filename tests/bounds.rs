//! Numbers that no memory holds are errors of the config, found at once and where they stand.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mixlab_burn::blocks::Builtin;
use mixlab_burn::config::{
    BlockSpec, Config, ConfigError, Field, FieldKind, PhaseSpec, TrainingSpec,
};
use mixlab_burn::plan::{Plan, Planned};
use mixlab_burn::program::Counts;
use mixlab_burn::random::Generator;

fn plan(blocks: &str, overrides: &[String]) -> Result<Planned, ConfigError> {
    let text = format!(
        r#"{{"model_dim": 16, "vocab_size": 32, "seq_len": 8, "blocks": [{blocks}],
            "training": {{"batch_tokens": 32, "phases": []}}}}"#
    );
    Plan::<Builtin>::parse(&text, "bounds.json", overrides)
}

/// Paths of the errors of `blocks` with one override.
fn paths(blocks: &str, setting: &str) -> Vec<String> {
    let error = plan(blocks, &[setting.into()]).expect_err(setting);
    error.problems().map(|problem| problem.path.clone()).collect()
}

const PLAIN: &str = r#"{"type": "plain", "heads": 2}, {"type": "plain", "heads": 2}"#;

#[test]
fn a_size_that_no_tensor_can_have_is_an_error_at_its_field() {
    let cases = [
        ("model_dim=4000000000000000000", "model_dim"),
        ("model_dim=134217728", "model_dim"),
        ("seq_len=9223372036854775807", "seq_len"),
        ("mlp_mult=1e300", "mlp_mult"),
        ("mlp_mult=1e9", "mlp_mult"),
        ("bigram_vocab_size=9223372036854775807", "bigram_vocab_size"),
        ("bigram_vocab_size=2000000000", "bigram_vocab_size"),
        ("training.batch_tokens=9223372036854775800", "training.batch_tokens"),
        ("training.batch_tokens=2000000000", "training.batch_tokens"),
    ];
    for (setting, path) in cases {
        assert_eq!(paths(PLAIN, setting), [path], "{setting}");
    }
    let bigrams = ["bigram_vocab_size=2147483647".into(), "bigram_dim=2".into()];
    let error = plan(PLAIN, &bigrams).unwrap_err();
    assert!(error.problems().any(|problem| problem.path == "bigram_vocab_size"), "{error}");
}

#[test]
fn so_is_one_of_a_block() {
    let blocks = ["mamba", "mamba3", "perceiver", "bottleneck"];
    for (kind, field) in blocks.iter().zip(["inner_dim", "inner_dim", "num_latents", "num_latents"])
    {
        for value in ["4611686018427387904", "9223372036854775807", "300000000"] {
            let block = format!(r#"{{"type": "{kind}", "heads": 2, "{field}": {value}}}"#);
            let error = plan(&block, &[]).expect_err(&block);
            let [problem] = error.problems().collect::<Vec<_>>()[..] else { panic!("{error}") };
            assert_eq!(problem.path, format!("blocks[0].{field}"));
            assert!(problem.message.contains(value) && problem.hint.is_some(), "{error}");
        }
    }
    // Squares of what fits by itself.
    let square = plan(r#"{"type": "mamba", "inner_dim": 50000}"#, &[]).unwrap_err();
    let expected = "blocks[0]: weight `conv_w` of a `mamba` block would have `2500000000` elements";
    assert!(square.to_string().contains(expected), "{square}");
}

#[test]
fn a_hint_takes_no_longer_because_a_number_is_large() {
    // A prime, and a number with many divisors.
    for (dim, hint) in [(67_108_859, "use one of 1, "), (61_261_200, "use one of ")] {
        let sizes = [
            format!("model_dim={dim}"),
            "vocab_size=1".into(),
            "mlp_mult=1".into(),
            "blocks[0].heads=23".into(),
        ];
        let start = Instant::now();
        let error = plan(PLAIN, &sizes).unwrap_err();
        assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
        let heads =
            error.problems().find(|p| p.path == "blocks[0].heads").expect("23 divides none");
        let hint_given = heads.hint.as_deref().unwrap();
        assert!(hint_given.starts_with(hint) && hint_given.len() < 200, "{hint_given}");
    }
}

#[test]
fn phases_whose_steps_have_no_sum_are_an_error() {
    let phase = |steps: i64| format!(r#"{{"steps": {steps}, "lr": 1}}"#);
    let phases = |steps: &[i64]| {
        let phases: Vec<_> = steps.iter().map(|steps| phase(*steps)).collect();
        format!("training.phases=[{}]", phases.join(","))
    };
    for steps in [&[i64::MAX, i64::MAX, 3][..], &[i64::MAX, 1]] {
        assert_eq!(paths(PLAIN, &phases(steps)), ["training.phases"]);
    }
    let most = plan(PLAIN, &[phases(&[i64::MAX - 1, 1])]).unwrap().plan;
    assert_eq!(most.training.steps, i64::MAX as usize);
}

#[test]
fn a_source_of_keys_below_all_blocks_is_none() {
    let setting = format!("blocks[1].kv_source={}", i64::MIN);
    let Builtin::Plain(plain) = &plan(PLAIN, &[setting]).unwrap().plan.steps[1].block else {
        panic!("planned as another type")
    };
    assert_eq!(plain.kv_source, None);
}

/// Far more than planning takes, and far less than to count to a number of these.
const LONG: Duration = Duration::from_secs(5);

/// One block of each type, with what it needs.
const BLOCKS: [&str; 12] = [
    r#"{"type": "plain", "heads": 2}, {"type": "plain", "heads": 2}"#,
    r#"{"type": "swiglu"}, {"type": "mlp", "activation": "leaky_relu_sq"}"#,
    r#"{"type": "mlp"}"#,
    r#"{"type": "mamba"}"#,
    r#"{"type": "mamba3"}"#,
    r#"{"type": "retnet", "heads": 2}"#,
    r#"{"type": "rwkv"}"#,
    r#"{"type": "perceiver", "heads": 2}"#,
    r#"{"type": "bottleneck", "heads": 2}"#,
    r#"{"type": "cross_attention", "heads": 2, "source_stream": "x"}"#,
    r#"{"type": "token_blend"}"#,
    r#"{"type": "custom", "name": "c", "weights": [{"name": "w", "shape": ["D", "H"]}],
        "ops": [{"op": "matmul", "inputs": ["x", "w"], "output": "y"},
                {"op": "silu", "inputs": ["x"], "output": "x"}]}"#,
];

const INTEGERS: [&str; 13] = [
    "-9223372036854775808",
    "-1",
    "0",
    "1",
    "3",
    "46341",
    "65537",
    "2147483647",
    "2147483648",
    "4294967296",
    "9000000000000",
    "4611686018427387904",
    "9223372036854775807",
];
const NUMBERS: [&str; 8] =
    ["-1e300", "-1", "0", "1e-300", "0.5", "3.4e38", "1e300", "1.7976931348623157e308"];

/// Each override that gives a number field within `prefix` an extreme value.
fn extremes(prefix: &str, fields: &'static [Field]) -> Vec<String> {
    let values = |field: &Field| match field.kind {
        FieldKind::Int => &INTEGERS[..],
        FieldKind::F32 | FieldKind::F64 => &NUMBERS[..],
        _ => &[],
    };
    let settings = |field: &'static Field| {
        values(field).iter().map(move |value| format!("{prefix}{}={value}", field.name))
    };
    fields.iter().flat_map(settings).collect()
}

/// Every extreme of one config.
fn settings() -> Vec<String> {
    let phases = |value: &&str| {
        let phase = format!(r#"{{"steps": {value}, "lr": 1}}"#);
        format!("training.phases=[{phase}, {phase}]")
    };
    let lists = |value: &&str| format!("recurrence=[{value}]");
    [
        extremes("", Config::FIELDS),
        extremes("blocks[0].", BlockSpec::FIELDS),
        extremes("training.", TrainingSpec::FIELDS),
        INTEGERS.iter().map(phases).collect(),
        INTEGERS.iter().map(lists).collect(),
    ]
    .concat()
}

/// Plans and counts; whatever is wrong must be said, at once, with a way out.
fn survive(blocks: &str, overrides: &[String]) -> Result<(), String> {
    let start = Instant::now();
    let done = catch_unwind(|| {
        let planned = match plan(blocks, overrides) {
            Ok(planned) => planned,
            Err(error) => return error.problems().all(|problem| problem.hint.is_some()),
        };
        Counts::of(&Arc::new(planned.plan)).is_ok()
    });
    match done {
        Ok(true) if start.elapsed() < LONG => Ok(()),
        Ok(true) => Err(format!("{overrides:?} takes {:?}: {blocks}", start.elapsed())),
        Ok(false) => Err(format!("{overrides:?} has no hint, or no count: {blocks}")),
        Err(_) => Err(format!("{overrides:?} panics: {blocks}")),
    }
}

#[test]
fn no_number_in_a_config_makes_planning_or_counting_panic_or_hang() {
    assert!(PhaseSpec::FIELDS.len() == 3, "a new field of phases is not covered here");
    let settings = settings();
    let alone = BLOCKS.iter().flat_map(|blocks| {
        settings.iter().map(move |setting| survive(blocks, std::slice::from_ref(setting)))
    });
    let mut generator = Generator::new(7);
    let mut draw = |list: usize| generator.intn(list as u64) as usize;
    let pairs: Vec<_> = (0..2000)
        .map(|_| (BLOCKS[draw(BLOCKS.len())], [draw(settings.len()), draw(settings.len())]))
        .collect();
    let pairs =
        pairs.iter().map(|(blocks, pair)| survive(blocks, &pair.map(|i| settings[i].clone())));
    let failures: Vec<_> = alone.chain(pairs).filter_map(Result::err).collect();
    assert!(
        failures.is_empty(),
        "{} of them:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

/// How long `blocks` take to be refused, the fastest of three times.
fn refusal(blocks: &str) -> (Duration, ConfigError) {
    let time = || {
        let start = Instant::now();
        let error = plan(blocks, &[]).unwrap_err();
        (start.elapsed(), error)
    };
    (0..3).map(|_| time()).min_by_key(|(time, _)| *time).expect("three")
}

/// A list of `count` of these.
fn list(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect::<Vec<_>>().join(",")
}

fn custom(weights: &str, ops: &str) -> String {
    format!(r#"{{"type": "custom", "name": "c", "weights": [{weights}], "ops": [{ops}]}}"#)
}

/// So many mistakes of one kind.
type Mistakes = (&'static str, fn(usize) -> String);

const KINDS: [Mistakes; 6] = [
    ("unknown types", |count| list(count, |_| r#"{"type": "nope"}"#.into())),
    ("streams that nobody publishes", |count| {
        let block = r#"{"type": "cross_attention", "heads": 2, "source_stream": "low"}"#;
        list(count, |_| block.into())
    }),
    ("streams that are published twice", |count| {
        list(count, |i| format!(r#"{{"type": "mlp", "stream": "s{}"}}"#, i / 2))
    }),
    ("later sources of keys", |count| {
        list(count, |_| r#"{"type": "plain", "heads": 2, "kv_source": 999999}"#.into())
    }),
    ("names that nothing has", |count| {
        let op = |i| format!(r#"{{"op": "silu", "inputs": ["nothing{i}"], "output": "y{i}"}}"#);
        custom(r#"{"name": "w", "shape": ["D"]}"#, &list(count, op))
    }),
    ("sizes that nothing has", |count| {
        let weight = |i| format!(r#"{{"name": "w{i}", "shape": ["Q"]}}"#);
        custom(&list(count, weight), r#"{"op": "silu", "inputs": ["x"], "output": "x"}"#)
    }),
];

#[test]
fn many_mistakes_take_time_by_their_number_and_the_first_are_printed() {
    for (name, mistakes) in KINDS {
        let (few, _) = refusal(&mistakes(500));
        let (many, error) = refusal(&mistakes(8000));
        // Sixteen times as many: 16 by their number, 256 by its square.
        assert!(many < few * 100, "{name}: {few:?} for 500, {many:?} for 8000");
        let message = error.to_string();
        assert!(message.lines().count() <= 101 && message.len() < 50_000, "{name}: {message}");
        assert_eq!(error.findings().len(), 50, "{name}");
        let more = error.more();
        assert!(message.ends_with(&format!("\nand `{more}` more errors")), "{name}: {message}");
    }
}

/// Each is captured three times: the time of `validate` and of the start of a run grows with them.
#[test]
fn so_is_the_number_of_blocks_and_not_each_of_them() {
    let blocks = vec![r#"{"type": "mlp"}"#; 300_000].join(",");
    let error = plan(&blocks, &[]).unwrap_err();
    let [problem] = error.problems().collect::<Vec<_>>()[..] else { panic!("{error}") };
    assert_eq!(problem.path, "blocks");
    assert!(problem.message.contains("`300000`") && problem.hint.is_some(), "{error}");
}
