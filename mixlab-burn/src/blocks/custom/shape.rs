//! Sizes as a `custom` block writes them: integers and symbols.
//!
//! | symbol | value |
//! |---|---|
//! | `D`, `T`, `V` | model_dim, seq_len, vocab_size |
//! | `B`, `BT` | rows of the batch and its tokens `B·T`; 1 and `T` in the shape of a weight |
//! | `H`, `HD` | heads of the block (1 if none are given) and `D / H`, which must be whole |
//! | `FFN` | `⌊2.67·D⌋`, whatever `mlp_mult` is |
//! | `2D`, `0.5D` … | any decimal number times `D`, its fraction cut off |
//! | `T/2` | `⌊T/2⌋` |

use super::fault::Fault;

/// Factor of `D` in the symbol `FFN`.
const FFN_FACTOR: f64 = 2.67;

/// How much data a forward pass is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Rows of the batch, `B`.
    pub batch: usize,
    /// Tokens in a row, `T`.
    pub seq: usize,
}

/// What the symbols stand for that do not depend on the data.
#[derive(Clone, Copy, Debug)]
pub struct Symbols {
    /// Width of the residual stream, `D`.
    pub dim: usize,
    /// Vocabulary size, `V`.
    pub vocab: usize,
    /// Heads, `H`; at least 1.
    pub heads: usize,
}

/// An integer that may depend on how much data a forward pass is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The same for any data; may be negative where it is an axis or a bound.
    Fixed(i64),
    /// `B`.
    Batch,
    /// `T`.
    Seq,
    /// `T/2`.
    HalfSeq,
    /// `BT`.
    Rows,
}

impl Size {
    /// Reads a symbol or an integer; space around it does not count, upper and lower case do.
    ///
    /// # Errors
    /// If it is neither, or `HD` while `H` does not divide `D`.
    pub fn parse(text: &str, symbols: &Symbols) -> Result<Self, Fault> {
        let Symbols { dim, vocab, heads } = *symbols;
        let fixed = |n: usize| Ok(Self::Fixed(n as i64));
        match text.trim() {
            "B" => Ok(Self::Batch),
            "T" => Ok(Self::Seq),
            "T/2" => Ok(Self::HalfSeq),
            "BT" => Ok(Self::Rows),
            "D" => fixed(dim),
            "V" => fixed(vocab),
            "H" => fixed(heads),
            "HD" if dim % heads != 0 => Err(Fault::new(
                format!("`HD` is not whole: heads `{heads}` does not divide model_dim `{dim}`"),
                "give the block a number of `heads` that divides model_dim",
            )),
            "HD" => fixed(dim / heads),
            "FFN" => Ok(Self::Fixed((FFN_FACTOR * dim as f64) as i64)),
            text => number(text, dim).map(Self::Fixed).ok_or_else(|| unknown(text)),
        }
    }

    /// An integer, or the symbol of what it depends on.
    pub fn to_json(self) -> serde_json::Value {
        match self {
            Self::Fixed(n) => n.into(),
            Self::Batch => "B".into(),
            Self::Seq => "T".into(),
            Self::HalfSeq => "T/2".into(),
            Self::Rows => "BT".into(),
        }
    }

    /// Whether it depends on the length of rows.
    pub fn varies(self) -> bool {
        matches!(self, Self::Seq | Self::HalfSeq | Self::Rows)
    }

    /// The number for data of this extent.
    pub fn at(self, extent: Extent) -> i64 {
        let Extent { batch, seq } = extent;
        match self {
            Self::Fixed(n) => n,
            Self::Batch => batch as i64,
            Self::Seq => seq as i64,
            Self::HalfSeq => (seq / 2) as i64,
            Self::Rows => (batch * seq) as i64,
        }
    }
}

/// An integer, or a decimal number times `D`.
fn number(text: &str, dim: usize) -> Option<i64> {
    match text.strip_suffix('D') {
        Some(factor) => {
            let factor = factor.parse::<f64>().ok().filter(|factor| factor.is_finite())?;
            Some((factor * dim as f64) as i64)
        }
        None => text.parse().ok(),
    }
}

fn unknown(text: &str) -> Fault {
    Fault::new(
        format!("`{text}` is not a size"),
        "sizes are integers, `D`, `T`, `V`, `B`, `H`, `HD`, `BT`, `FFN`, `T/2`, or a number times `D` such as `2D`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: Symbols = Symbols { dim: 30, vocab: 37, heads: 4 };
    const EXTENT: Extent = Extent { batch: 2, seq: 13 };

    fn value(text: &str) -> Result<i64, String> {
        let size = Size::parse(text, &SYMBOLS);
        size.map(|size| size.at(EXTENT)).map_err(|fault| fault.message)
    }

    #[test]
    fn every_symbol_has_its_value() {
        let values = [
            ("D", 30),
            ("T", 13),
            ("V", 37),
            ("B", 2),
            ("H", 4),
            ("BT", 26),
            ("2D", 60),
            ("8D", 240),
            ("T/2", 6),
            ("FFN", 80),
            (" D ", 30),
        ];
        for (text, expected) in values {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_decimal_times_d_is_cut_off_and_an_integer_is_itself() {
        for (text, expected) in [
            ("0.55D", 16),
            ("1e1D", 300),
            ("0.01D", 0),
            ("-1D", -30),
            ("7", 7),
            ("+7", 7),
            ("-1", -1),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn head_width_must_be_whole() {
        let message = "`HD` is not whole: heads `4` does not divide model_dim `30`";
        assert_eq!(value("HD"), Err(message.into()));
        let symbols = Symbols { heads: 5, ..SYMBOLS };
        assert_eq!(Size::parse("HD", &symbols).unwrap(), Size::Fixed(6));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "d", "Q", "DD", "infD", "nanD", "1.5", "T/3", "99999999999999999999"] {
            assert_eq!(value(text), Err(format!("`{text}` is not a size")));
        }
    }
}
