//! Text from trained weights.

use super::*;

#[test]
fn drawn_tokens_are_those_of_the_original() {
    for (file, flags) in [
        ("greedy", "-prompt token_ids:1,2,3 -max-tokens 12 -top-k 1"),
        ("k0_t1.5", "-max-tokens 12 -top-k 0 -temperature 1.5"),
        ("k40_t0.8", "-prompt token_ids:10 -max-tokens 12"),
        ("k5_t0.5", "-prompt token_ids:0,1,2,3,4,5,6,7 -max-tokens 99 -top-k 5 -temperature 0.5"),
        ("overflow", "-prompt token_ids:5 -max-tokens 99 -top-k 3 -temperature 1"),
    ] {
        let got = mode("generate", &flags.split(' ').collect::<Vec<_>>());
        assert_eq!(got.trim_end(), golden(&format!("generate_{file}.txt")).trim_end(), "{flags}");
    }
    let greedy = "-prompt token_ids:1,2,3 -max-tokens 12 --temperature 0";
    let got = mode("generate", &greedy.split(' ').collect::<Vec<_>>());
    assert_eq!(got.trim_end(), golden("generate_greedy.txt").trim_end());
}

#[test]
fn a_model_that_sees_the_future_says_so_once_and_generates() {
    let case = "golden/cases/perceiver";
    let (config, weights) = (format!("{case}/config.json"), format!("{case}/final.safetensors"));
    let line =
        ["generate", "--config", &config, "--safetensors-load", &weights, "--max-tokens", "5"];
    let output = mixlab(&line);
    assert_eq!(stderr(&output).matches("the whole row is read again").count(), 1);
    assert!(stdout(&output).starts_with("generated token_ids:"));
}

/// Prepares a text and trains a little on it; the config, the weights and the shards.
fn trained(folder: &Path) -> [String; 3] {
    let at = |name: &str| folder.join(name).display().to_string();
    fs::write(
        at("a.txt"),
        "the small cat sees the café. the old dog sees the small cat.\n".repeat(300),
    )
    .unwrap();
    let prepare =
        ["prepare", "--input", &at("a.txt"), "--output", &at("data"), "--vocab-size", "64"];
    stdout(&mixlab(&prepare));
    let (weights, shards) = (at("model.st"), at("data/train_*.bin"));
    let run =
        ["arch", "--config", CONFIG, "--train", &shards, "--safetensors", &weights, "--quiet"];
    stdout(&mixlab(&[&run[..], &["--set", "training.steps=150", "--set", "seq_len=32"]].concat()));
    [CONFIG.into(), weights, shards]
}

#[test]
fn text_goes_in_and_text_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let [config, weights, shards] = trained(folder.path());
    let generate = |more: &[&str]| {
        let line = ["generate", "--config", &config, "--safetensors-load", &weights];
        let fixed = ["--train", &shards, "--set", "seq_len=32", "--temperature", "0"];
        mixlab(&[&line[..], &fixed, more].concat())
    };
    let text = |more: &[&str]| stdout(&generate(more));
    let whole = text(&["--prompt", "the old", "--max-tokens", "12"]);
    assert!(whole.contains("dog") || whole.contains("cat"), "{whole}");
    let echoed = text(&["--prompt", "the old", "--max-tokens", "12", "--echo"]);
    assert_eq!(echoed, format!("the old{whole}"));
    fs::write(folder.path().join("p"), "the old\n").unwrap();
    let file = format!("@{}", folder.path().join("p").display());
    assert_eq!(text(&["--prompt", &file, "--max-tokens", "12"]), whole);
    let cut = text(&["--prompt", "the old", "--max-tokens", "12", "--stop", "zz", "--stop", "e"]);
    assert_eq!(cut.trim_end_matches('\n'), whole.split('e').next().unwrap().trim_end_matches('\n'));
    let two = text(&["--prompt", "the", "--num-samples", "2", "--max-tokens", "3"]);
    assert!(two.contains("--- sample 1/2 ---\n") && two.contains("--- sample 2/2 ---\n"), "{two}");
    let json = text(&["--prompt", "the old", "--max-tokens", "12", "--json"]);
    let object: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(object["text"].as_str().unwrap(), whole.trim_end_matches('\n'));
    assert_eq!(
        (object["end"].as_str(), object["prompt"].as_str()),
        (Some("max_tokens"), Some("the old"))
    );
    assert_eq!(object["token_ids"].as_array().unwrap().len(), 12);
    // Text of its own tokens, by name.
    let tokenizer = folder.path().join("data/tokenizer.json").display().to_string();
    let named =
        text(&["--tokenizer", &tokenizer, "--prompt", "token_ids:1,2", "--max-tokens", "2"]);
    assert!(!named.contains("token_ids"), "{named}");
    let long = generate(&["--prompt", "the old", "--max-tokens", "99"]);
    assert!(stderr(&long).contains("stopped at seq_len limit (32 tokens)"), "{}", stderr(&long));
    let slid = text(&["--prompt", "the old", "--max-tokens", "99", "--slide", "--json"]);
    let object: Value = serde_json::from_str(&slid).unwrap();
    assert_eq!(object["token_ids"].as_array().unwrap().len(), 99);
}

#[test]
fn a_prompt_comes_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let [config, weights, shards] = trained(folder.path());
    let line =
        ["generate", "--config", &config, "--safetensors-load", &weights, "--train", &shards];
    let more = ["--set", "seq_len=32", "--prompt", "-", "--max-tokens", "3", "--json"];
    let mut command = command(&[&line[..], &more].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("the café\n".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let object: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(object["prompt"], "the café");
}

#[cfg(unix)]
#[test]
fn an_interrupted_text_ends_its_line_and_exits_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let [config, weights, shards] = trained(folder.path());
    let line =
        ["generate", "--config", &config, "--safetensors-load", &weights, "--train", &shards];
    let more = ["--set", "seq_len=32", "--prompt", "the", "--max-tokens", "100000000", "--slide"];
    let mut command = command(&[&line[..], &more].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = vec![0; 100];
    out.read_exact(&mut first).unwrap();
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let mut rest = Vec::new();
    while out.read_until(b'\n', &mut rest).unwrap() > 0 {}
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(rest.last(), Some(&b'\n'));
    assert!(std::str::from_utf8(&[first, rest].concat()).is_ok(), "characters are whole");
}
