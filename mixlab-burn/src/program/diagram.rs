//! The architecture as a picture (SVG): one row a block, in order of execution from top to bottom;
//! arcs for what a block reads beside the stream, as its program shows; one colour for blocks that
//! share weights.

use std::collections::BTreeMap;
use std::fmt::Write;

use mixlab_ops::capture::Program;

use super::edges::{Edge, edges};
use crate::blocks::Block;
use crate::model::Part;
use crate::plan::Plan;

const ROW: usize = 38;
const BOX: [usize; 2] = [330, 28];
const LEFT: usize = 230;
const WIDTH: usize = 860;
const TOP: usize = 50;
/// How far the innermost arc bends out, past the label at its head.
const BEND: usize = 60;
/// How far arcs that overlap bend out one past the other, if there is room.
const LANE: usize = 22;
/// How far an arc may bend out: it reaches three quarters of this, which is the room beside the boxes.
const MOST: usize = (WIDTH - LEFT - BOX[0] - 10) * 4 / 3;
/// Fills of shared weights; a block with weights of its own is white.
const FILLS: [&str; 6] = ["#cfe8fc", "#d8f0d0", "#fde3c8", "#eadcf7", "#fbd7dc", "#e8e6c9"];

/// One box of the picture.
struct Row {
    label: String,
    /// What stands beside the box.
    note: String,
    fill: &'static str,
}

/// An arc from one row to a later one.
struct Arc {
    from: usize,
    to: usize,
    label: String,
}

/// Draws the model of `plan`, whose forward is `program`.
pub fn diagram<K: Block>(plan: &Plan<K>, program: &Program) -> String {
    let edges = edges(program).into_iter().filter_map(|edge| {
        let name = what(plan, &edge)?;
        Some(Edge { name, ..edge })
    });
    // Arcs from the embedding to many blocks would hide all others.
    let (embedded, edges) = edges.partition(|edge| edge.from == Part::Embedding);
    let rows = rows(plan, embedded);
    let arcs = arcs(plan, edges);
    let lanes = lanes(&arcs);
    let height = TOP + rows.len() * ROW + 20;
    let mut svg = String::new();
    let mut line = |text: String| writeln!(svg, "{text}").expect("strings grow");
    line(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">"
    ));
    line(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
          markerHeight=\"7\" orient=\"auto-start-reverse\"><path d=\"M0 0L8 4L0 8z\" \
          fill=\"#555\"/></marker></defs>"
            .into(),
    );
    line(format!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"));
    line(format!(
        "<text x=\"{}\" y=\"26\" font-size=\"16\" text-anchor=\"middle\">{}</text>",
        LEFT + BOX[0] / 2,
        escaped(&plan.name)
    ));
    rows.iter().enumerate().for_each(|(at, row)| line(row.draw(at, at + 1 < rows.len())));
    let bends = bends(&lanes);
    arcs.iter().zip(bends).for_each(|(arc, bend)| line(arc.draw(bend)));
    svg.push_str("</svg>\n");
    svg
}

/// What stands at the arc of `edge`; nothing for the residual stream on its way to the next part,
/// which an arrow shows.
fn what<K: Block>(plan: &Plan<K>, edge: &Edge) -> Option<String> {
    let next = row(plan, edge.to) == row(plan, edge.from) + 1;
    match edge.from {
        Part::Embedding => (!next).then(|| edge.name.clone()),
        Part::Block(from) if edge.name == "x" => {
            let skip = match edge.to {
                Part::Block(to) => plan.skip(to).filter(|s| from + s + 1 == plan.encoder_len()),
                _ => None,
            };
            let skip = skip.map(|number| format!("skip {number}"));
            let stream = plan.steps[from].stream.clone().filter(|_| !next);
            skip.into_iter().chain(stream).reduce(|a, b| format!("{a}, {b}"))
        }
        _ => Some(edge.name.clone()),
    }
}

/// The row of a part of the model.
fn row<K: Block>(plan: &Plan<K>, part: Part) -> usize {
    match part {
        Part::Embedding => 0,
        Part::Block(index) => 1 + index,
        Part::Head => 1 + plan.steps.len(),
    }
}

fn rows<K: Block>(plan: &Plan<K>, embedded: Vec<Edge>) -> Vec<Row> {
    let row = |label: String| Row { label, note: String::new(), fill: "#f2f2f2" };
    let bigram =
        plan.bigram.as_ref().map_or(String::new(), |b| format!(" + bigrams {}×{}", b.vocab, b.dim));
    let mut rows = vec![row(format!("embedding {}×{}{bigram}", plan.vocab, plan.dim))];
    let shared: Vec<usize> = (0..plan.steps.len())
        .filter(|i| plan.steps.iter().enumerate().any(|(j, s)| s.owner == *i && j != *i))
        .collect();
    for (index, step) in plan.steps.iter().enumerate() {
        let group = shared.iter().position(|owner| *owner == step.owner);
        let mut note = String::new();
        if step.owner != index {
            note = format!("weights of {}", step.owner);
        }
        for edge in embedded.iter().filter(|edge| edge.to == Part::Block(index)) {
            note = format!("{note} + {}", edge.name);
        }
        if let Some(stream) = &step.stream {
            note = format!("{note} → {stream}");
        }
        let fill = group.map_or("white", |g| FILLS[g % FILLS.len()]);
        rows.push(Row { label: format!("{index}  {}", step.label), note, fill });
    }
    let tied = if plan.tie_embeddings { "tied head" } else { "head" };
    let cap = plan.softcap.map_or(String::new(), |cap| format!(", capped at ±{cap}"));
    rows.push(row(format!("norm, {tied} {}×{}{cap}", plan.dim, plan.vocab)));
    rows
}

/// One arc for all that one part reads from another.
fn arcs<K: Block>(plan: &Plan<K>, edges: Vec<Edge>) -> Vec<Arc> {
    let mut labels: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    for Edge { from, to, name } in edges {
        labels.entry((row(plan, from), row(plan, to))).or_default().push(name);
    }
    let arc = |((from, to), names): ((usize, usize), Vec<String>)| Arc {
        from,
        to,
        label: names.join(", "),
    };
    labels.into_iter().map(arc).collect()
}

/// A lane for each arc, such that arcs of one lane do not overlap; short arcs lie inside.
fn lanes(arcs: &[Arc]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..arcs.len()).collect();
    order.sort_by_key(|i| (arcs[*i].to - arcs[*i].from, arcs[*i].from));
    let mut lanes = vec![0; arcs.len()];
    let mut taken: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let free = taken.iter().position(|lane| {
            lane.iter().all(|j| arcs[*j].to < arcs[i].from || arcs[i].to < arcs[*j].from)
        });
        lanes[i] = free.unwrap_or(taken.len());
        if free.is_none() {
            taken.push(Vec::new());
        }
        taken[lanes[i]].push(i);
    }
    lanes
}

/// How far the arc of each lane bends out: evenly, and closer together where there are many.
fn bends(lanes: &[usize]) -> Vec<usize> {
    let outermost = lanes.iter().max().copied().unwrap_or(0).max(1);
    let bend = |lane: &usize| BEND + (lane * LANE).min(lane * (MOST - BEND) / outermost);
    lanes.iter().map(bend).collect()
}

impl Row {
    fn draw(&self, at: usize, arrow: bool) -> String {
        let y = TOP + at * ROW;
        let (middle, [width, height]) = (LEFT + BOX[0] / 2, BOX);
        let mut svg = format!(
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"5\" \
             fill=\"{}\" stroke=\"#555\"/><text x=\"{middle}\" y=\"{}\" \
             text-anchor=\"middle\">{}</text>",
            self.fill,
            y + 18,
            escaped(&clipped(&self.label, 52))
        );
        if !self.note.is_empty() {
            let (x, y) = (LEFT - 10, y + 18);
            let note = escaped(&clipped(&self.note, 34));
            svg += &format!(
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" fill=\"#555\">{note}</text>"
            );
        }
        if arrow {
            let (from, to) = (y + height, y + ROW);
            svg += &format!(
                "<path d=\"M{middle} {from}V{to}\" stroke=\"#555\" marker-end=\"url(#tip)\"/>"
            );
        }
        svg
    }
}

impl Arc {
    fn draw(&self, bend: usize) -> String {
        let right = LEFT + BOX[0];
        let [from, to] = [(self.from, 20), (self.to, 8)].map(|(row, dy)| TOP + row * ROW + dy);
        let bend = right + bend;
        format!(
            "<path d=\"M{right} {from}C{bend} {from} {bend} {to} {right} {to}\" fill=\"none\" \
             stroke=\"#b05010\" marker-end=\"url(#tip)\"/><text x=\"{}\" y=\"{}\" \
             fill=\"#b05010\" font-size=\"10\">{}</text>",
            right + 12,
            to + 12,
            escaped(&self.label)
        )
    }
}

fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn picture(blocks: &str, more: &str) -> String {
        let json = format!(
            r#"{{"name": "a<b", "model_dim": 8, "vocab_size": 9, "seq_len": 4, {more}
            "blocks": [{blocks}], "training": {{"batch_tokens": 8}}}}"#
        );
        let plan = Plan::<crate::blocks::Builtin>::parse(&json, "c", &[]).unwrap().plan;
        let plan = std::sync::Arc::new(plan);
        diagram(&plan, &crate::program::describe(&plan, [2, 4]).unwrap())
    }

    #[test]
    fn rows_carry_type_and_settings() {
        let svg = picture(r#"{"type": "plain", "heads": 2, "xsa": true}, {"type": "swiglu"}"#, "");
        for text in ["a&lt;b", ">0  plain heads=2 xsa<", ">1  swiglu<", "embedding 9×8", "head 8×9"]
        {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        assert!(!svg.contains("#b05010"), "there is nothing to draw an arc for");
    }

    #[test]
    fn skips_sources_and_shared_weights_are_drawn() {
        let plain = r#"{"type": "plain", "heads": 2}"#;
        let svg = picture(
            &[plain, plain, plain, r#"{"type": "plain", "heads": 2, "kv_source": 1}"#].join(","),
            r#""unet": true, "recurrence": [0, 0, 2, 3],"#,
        );
        for text in [">skip 0<", ">k, v, skip 1<", ">weights of 0<", FILLS[0]] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        assert_eq!(svg.matches("<path d=\"M560").count(), 2, "{svg}");
    }

    #[test]
    fn what_is_not_read_is_not_drawn() {
        let reading = |name: &str| {
            let reader =
                format!(r#"{{"type": "cross_attention", "heads": 2, "source_stream": "{name}"}}"#);
            let published = r#"{"type": "mlp", "stream": "low"}, {"type": "mlp"}"#;
            picture(&format!("{published}, {reader}"), "")
        };
        assert!(reading("low").contains("#b05010\" font-size=\"10\">low<"));
        assert!(!reading("x").contains("#b05010"));
        assert!(reading("x0").contains("> + x0<") && !reading("x0").contains("#b05010"));
    }

    #[test]
    fn a_pair_shares_its_norm() {
        let pair = r#"{"type": "plain", "heads": 2}, {"type": "swiglu"}"#;
        let svg = picture(&format!("{pair}, {pair}"), r#""parallel_residual": true,"#);
        assert_eq!(svg.matches(">n<").count(), 2);
    }

    #[test]
    fn arcs_that_overlap_take_different_lanes() {
        let arc = |from, to| Arc { from, to, label: String::new() };
        assert_eq!(lanes(&[arc(0, 9), arc(1, 3), arc(4, 5), arc(2, 6)]), [2, 0, 0, 1]);
    }

    #[test]
    fn arcs_keep_their_distance_however_many_there_are() {
        assert_eq!(bends(&[1, 0, 2]), [BEND + LANE, BEND, BEND + 2 * LANE]);
        let many = bends(&(0..24).collect::<Vec<_>>());
        assert!(many.windows(2).all(|pair| pair[1] >= pair[0] + LANE / 2), "{many:?}");
        assert_eq!(many.last(), Some(&MOST));
    }
}
