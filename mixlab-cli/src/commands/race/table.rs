//! The results of a race: the table of mixlab 0.10.1, and what it lacks after it.

use std::time::Duration;

use mixlab_burn::race::{Comparison, Failure, Ranking, SEEDS_AT_MOST, Standing, compare};
use serde_json::{Value, json};

use super::run::first_line;
use crate::cli;
use crate::error::printable;
use crate::report::{duration, flops};

/// Length of the line below the header.
const RULE: usize = 137;

/// Prints the ranking in the form that was asked for; `baseline` is a config to compare with.
pub fn print(options: &cli::Race, ranking: &Ranking, baseline: Option<&str>) {
    let comparisons = baseline.map(|name| comparisons(ranking, name));
    let comparisons = comparisons.as_deref();
    match (options.json, options.csv) {
        (true, _) => println!("{:#}", as_json(ranking, baseline, comparisons)),
        (_, true) => print!("{}", as_csv(ranking)),
        _ => print!("{}", printable(&as_text(ranking, baseline, comparisons))),
    }
}

/// Every config but the baseline, compared with it, in the order of the ranking.
fn comparisons(ranking: &Ranking, baseline: &str) -> Vec<(String, Comparison)> {
    let Some(base) = ranking.standing(baseline) else { return Vec::new() };
    let others = ranking.ranked.iter().chain(&ranking.seeing_the_future);
    let others = others.filter(|standing| standing.name != baseline);
    others.map(|other| (other.name.clone(), compare(&other.keys, &base.keys))).collect()
}

fn as_text(
    ranking: &Ranking,
    baseline: Option<&str>,
    comparisons: Option<&[(String, Comparison)]>,
) -> String {
    let Ranking { ranked, seeing_the_future, failures, .. } = ranking;
    let seeds = ranked.iter().chain(seeing_the_future).any(|row| row.runs + row.failed > 1);
    let mut text = format!("\n=== ARCH RACE RESULTS ===\n{}", header(seeds));
    ranked.iter().for_each(|row| text += &line(row, seeds));
    if !seeing_the_future.is_empty() {
        text += "not ranked, for they see the tokens that they predict:\n";
        seeing_the_future.iter().for_each(|row| text += &line(row, seeds));
    }
    for Failure { name, reasons } in failures {
        let reasons: Vec<&str> = reasons.iter().map(|reason| first_line(reason)).collect();
        text += &format!("{name:<28} failed: {}\n", reasons.join("; "));
    }
    if let (Some(baseline), Some(comparisons)) = (baseline, comparisons) {
        text += &compared(baseline, comparisons);
    }
    text
}

fn header(seeds: bool) -> String {
    let more = if seeds { format!(" {:>10} {:>5}", "STDERR", "RUNS") } else { String::new() };
    format!(
        "{:<28} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12} {:>12} {:>11} TIME{more}\n{}\n",
        "CONFIG",
        "FIRST",
        "LAST",
        "VAL",
        "DELTA",
        "DELTA%",
        "FLOPs/STEP",
        "FLOPs/TOK",
        "LOSS/MFLOP",
        "-".repeat(RULE)
    )
}

fn line(row: &Standing, seeds: bool) -> String {
    let delta = row.last_loss - row.first_loss;
    let percent = if row.first_loss == 0.0 { 0.0 } else { 100.0 * delta / row.first_loss };
    let val = row.val_loss.map_or("n/a".into(), |val| format!("{val:.4}"));
    let efficiency = match row.token_flops {
        0 => "n/a".into(),
        flops => format!("{:.4}", row.key / (flops as f64 / 1e6)),
    };
    let time = Duration::try_from_secs_f64(row.seconds).unwrap_or(Duration::MAX);
    let more = if seeds {
        let error = row.standard_error.map_or("n/a".into(), |error| format!("±{error:.4}"));
        let all = row.runs + row.failed;
        let runs = if row.failed > 0 { format!("{}/{all}", row.runs) } else { all.to_string() };
        format!(" {error:>10} {runs:>5}")
    } else {
        String::new()
    };
    format!(
        "{:<28} {:>10.4} {:>10.4} {val:>10} {delta:>10.4} {percent:>9.1}% {:>12} {:>12} {efficiency:>11} {:>8}{more}\n",
        row.name,
        row.first_loss,
        row.last_loss,
        flops(row.step_flops),
        flops(row.token_flops),
        duration(time, Duration::from_millis(1)),
    )
}

/// The table of differences.
fn compared(baseline: &str, comparisons: &[(String, Comparison)]) -> String {
    let mut text = format!(
        "\n=== COMPARED WITH {baseline}, seed by seed ===\n{:<28} {:>10} {:>24} {:>5}  VERDICT\n",
        "CONFIG", "DIFFERENCE", "95% INTERVAL", "PAIRS"
    );
    if comparisons.is_empty() {
        text += "nothing to compare: the baseline has no result, or no other config has one\n";
    }
    for (name, found) in comparisons {
        let difference = found.difference.map_or("n/a".into(), |d| format!("{d:+.4}"));
        let interval = found.interval.map_or("n/a".into(), |[l, h]| format!("[{l:+.4}, {h:+.4}]"));
        let (pairs, verdict) = (found.pairs, verdict(found));
        text += &format!("{name:<28} {difference:>10} {interval:>24} {pairs:>5}  {verdict}\n");
    }
    text
}

fn verdict(found: &Comparison) -> String {
    match (found.difference, found.more_seeds) {
        (Some(d), _) if found.settled => if d < 0.0 { "better" } else { "worse" }.into(),
        (_, Some(1)) => "open; 1 seed more would settle it".into(),
        (_, Some(more)) => format!("open; {more} seeds more would settle it"),
        (_, None) if found.pairs < 2 => "open; `--seeds 2` or more tells how sure it is".into(),
        _ => format!("no difference that {SEEDS_AT_MOST} seeds more would settle"),
    }
}

fn as_json(
    ranking: &Ranking,
    baseline: Option<&str>,
    comparisons: Option<&[(String, Comparison)]>,
) -> Value {
    let mut value = json!(ranking);
    if let (Some(baseline), Some(comparisons)) = (baseline, comparisons) {
        let compared = comparisons.iter().map(|(name, found)| {
            let mut value = json!(found);
            value["name"] = json!(name);
            value
        });
        value["baseline"] = json!(baseline);
        value["comparisons"] = compared.collect();
    }
    value
}

/// One line a config, numbers in full.
fn as_csv(ranking: &Ranking) -> String {
    let mut text = String::from(
        "rank,name,status,runs,failed,first_loss,last_loss,val_loss,key,standard_error,parameters,step_flops,token_flops,seconds,reason\n",
    );
    let optional = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
    let mut add = |rank: String, status: &str, row: &Standing| {
        text += &format!(
            "{rank},{},{status},{},{},{},{},{},{},{},{},{},{},{},\n",
            quoted(&row.name),
            row.runs,
            row.failed,
            row.first_loss,
            row.last_loss,
            optional(row.val_loss),
            row.key,
            optional(row.standard_error),
            row.parameters,
            row.step_flops,
            row.token_flops,
            row.seconds
        );
    };
    (1..).zip(&ranking.ranked).for_each(|(rank, row)| add(rank.to_string(), "ranked", row));
    ranking.seeing_the_future.iter().for_each(|row| add(String::new(), "sees the future", row));
    for Failure { name, reasons } in &ranking.failures {
        text += &format!(",{},failed,0,,,,,,,,,,,{}\n", quoted(name), quoted(&reasons.join("; ")));
    }
    text
}

/// A field of a line of comma-separated values (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            name: "plain_3L".into(),
            token_flops: 6_495_744,
            step_flops: 6_651_641_856,
            runs: 1,
            first_loss: 6.9,
            last_loss: 3.45,
            val_loss: Some(3.5),
            key: 3.5,
            seconds: 39.1234,
            ..Standing::default()
        }
    }

    #[test]
    fn a_row_has_the_columns_of_the_original() {
        assert_eq!(
            line(&standing(), false),
            "plain_3L                         6.9000     3.4500     3.5000    -3.4500     -50.0%   6.65 GFLOP   6.50 MFLOP      0.5388  39.123s\n"
        );
        let header = header(false);
        assert!(header.starts_with(
            "CONFIG                            FIRST       LAST        VAL      DELTA     DELTA%"
        ));
        assert_eq!(header.lines().nth(1), Some(&*"-".repeat(137)));
    }

    #[test]
    fn several_seeds_add_columns_at_the_end() {
        let row = Standing { runs: 2, failed: 1, standard_error: Some(0.0123), ..standing() };
        assert!(line(&row, true).ends_with("  39.123s    ±0.0123   2/3\n"));
    }

    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(quoted("a"), "a");
    }
}
