//! What `arch` is told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use mixlab_burn::weights::{Clip, Levels, Quantization};

use super::{ConfigFile, Training, positive};

#[derive(Args)]
pub struct Arch {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(flatten)]
    pub training: Training,
    /// Write the trained weights here
    #[arg(long, value_name = "FILE")]
    pub safetensors: Option<PathBuf>,
    /// Write the trained model as an ONNX file, as `export --onnx` does
    #[arg(long, value_name = "FILE")]
    pub export_onnx: Option<PathBuf>,
    #[command(flatten)]
    pub quantize: Quantize,
    #[command(flatten)]
    pub start: WarmStart,
    #[command(flatten)]
    pub checkpoints: Checkpoints,
    /// Append one JSON object a logged step
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Write when data, steps, validation and checkpoints took place, for Perfetto or Chrome
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print only the result
    #[arg(long)]
    pub quiet: bool,
}

/// Where and when a run is saved, and where it goes on from.
#[derive(Args)]
pub struct Checkpoints {
    #[command(flatten)]
    pub saving: Saving,
    /// Go on from the newest whole checkpoint in this folder; if --checkpoint-dir is the same folder and
    /// has none yet, start
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Let these differ from the run that is resumed, as in training.lr,steps,data
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "resume")]
    pub resume_allow: Vec<String>,
}

/// Where and when a run is saved so that it can go on.
#[derive(Args)]
pub struct Saving {
    /// Folder for checkpoints, in a race one in that of each run; the last step is always one
    #[arg(long, value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
    /// Steps between checkpoints, or time, as in 90s, 10m or 2h; 0 for none but the last
    #[arg(long, value_name = "N", default_value = "0", value_parser = every)]
    pub checkpoint_every: Every,
    /// Keep only the newest checkpoints, so many [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub keep: Option<usize>,
}

/// When something is due again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Never.
    Never,
    /// After so many steps.
    Steps(usize),
    /// After so much time.
    Time(Duration),
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("0"),
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Time(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

fn every(text: &str) -> Result<Every, String> {
    let text = text.trim();
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(steps) = number(text) {
        return Ok(if steps == 0 { Every::Never } else { Every::Steps(steps as usize) });
    }
    let unit = text.char_indices().next_back().and_then(|(at, unit)| {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        number(&text[..at]).filter(|n| *n > 0)?.checked_mul(seconds)
    });
    let refused = || "expected a number of steps, or a time like 90s, 10m or 2h".to_string();
    unit.map(|seconds| Every::Time(Duration::from_secs(seconds))).ok_or_else(refused)
}

/// Weights to start from.
#[derive(Args)]
pub struct WarmStart {
    /// Start from these weights
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub safetensors_load: Option<PathBuf>,
    /// Take tensor OLD of the file for the weight NEW, as in w4_wq=w7_wq; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = pair, requires = "safetensors_load")]
    pub load_map: Vec<(String, String)>,
    /// Load what fits, and list the rest
    #[arg(long, requires = "safetensors_load")]
    pub load_partial: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or("expected OLD=NEW, as in w4_wq=w7_wq")?;
    Ok((old.trim().into(), new.trim().into()))
}

/// How exported weights are quantized.
#[derive(Args)]
pub struct Quantize {
    /// Export weights as small integers
    #[arg(long, value_name = "MODE", default_value = "none")]
    pub quantize: QuantizeMode,
    /// What decides where rows are cut: quantile or sdclip
    #[arg(long, value_name = "METHOD", default_value = "quantile", value_parser = method)]
    pub quant_method: Method,
    /// Standard deviations that sdclip keeps
    #[arg(long, value_name = "K", default_value_t = 12.85, value_parser = above_zero)]
    pub quant_k: f32,
    /// The same of embeddings
    #[arg(long, value_name = "K", default_value_t = 20.0, value_parser = above_zero)]
    pub quant_k_embed: f32,
    /// Scales of at least 1/127, as mixlab 0.10.1 writes: small weights become coarse
    #[arg(long)]
    pub quant_legacy_floor: bool,
    /// How the 64 levels of int6 are stored
    #[arg(long, value_name = "LAYOUT", default_value = "bytes")]
    pub quant_layout: Layout,
}

/// Value of `--quantize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QuantizeMode {
    /// Not at all.
    None,
    /// 255 levels.
    Int8,
    /// 64 levels.
    Int6,
}

/// Value of `--quant-method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Quantile,
    StandardDeviations,
}

/// Value of `--quant-layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// One byte a value, as mixlab 0.10.1.
    Bytes,
    /// Six bits a value.
    Packed6,
}

fn method(text: &str) -> Result<Method, String> {
    match text {
        // As the original takes it.
        "" | "quantile" => Ok(Method::Quantile),
        "sdclip" => Ok(Method::StandardDeviations),
        _ => Err("use one of `quantile`, `sdclip`".into()),
    }
}

fn above_zero(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(k) if k > 0.0 && k.is_finite() => Ok(k),
        Ok(_) => Err("must be above 0".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Quantize {
    /// The flags that say the same to another process; none if nothing is quantized.
    pub fn flags(&self) -> Vec<String> {
        let name =
            |value: Option<PossibleValue>| value.map_or(String::new(), |v| v.get_name().into());
        if self.quantize == QuantizeMode::None {
            return Vec::new();
        }
        let method = match self.quant_method {
            Method::Quantile => "quantile",
            Method::StandardDeviations => "sdclip",
        };
        let mut flags = vec![
            format!("--quantize={}", name(self.quantize.to_possible_value())),
            format!("--quant-method={method}"),
            format!("--quant-k={}", self.quant_k),
            format!("--quant-k-embed={}", self.quant_k_embed),
            format!("--quant-layout={}", name(self.quant_layout.to_possible_value())),
        ];
        if self.quant_legacy_floor {
            flags.push("--quant-legacy-floor".into());
        }
        flags
    }

    /// The rule that the flags give; an error if they contradict each other.
    pub fn rule(&self) -> Result<Option<Quantization>, String> {
        let packed = self.quant_layout == Layout::Packed6;
        let levels = match self.quantize {
            QuantizeMode::None if packed || self.quant_legacy_floor => {
                let flag = if packed { "--quant-layout packed6" } else { "--quant-legacy-floor" };
                return Err(format!(
                    "`{flag}` says how weights are quantized, and none are\n  hint: add `--quantize int6`, or leave it out"
                ));
            }
            QuantizeMode::None => return Ok(None),
            QuantizeMode::Int8 => Levels::Int8,
            QuantizeMode::Int6 => Levels::Int6,
        };
        if packed && levels == Levels::Int8 {
            return Err(
                "`--quant-layout packed6` has six bits, and `--quantize int8` needs eight\n  hint: use `--quantize int6`, or leave the layout out"
                    .into(),
            );
        }
        let clip = match self.quant_method {
            Method::Quantile => Clip::Quantile,
            Method::StandardDeviations => {
                Clip::StandardDeviations { k: self.quant_k, k_embed: self.quant_k_embed }
            }
        };
        Ok(Some(Quantization { levels, clip, legacy_floor: self.quant_legacy_floor, packed }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_how_to_quantize_needs_something_that_is() {
        let rule = |quantize, quant_layout, quant_legacy_floor| {
            let (quant_method, quant_k, quant_k_embed) = (Method::Quantile, 12.85, 20.0);
            Quantize {
                quantize,
                quant_method,
                quant_k,
                quant_k_embed,
                quant_legacy_floor,
                quant_layout,
            }
            .rule()
        };
        use {Layout::*, QuantizeMode::*};
        assert!(rule(None, Bytes, false).unwrap().is_none());
        assert!(rule(Int6, Packed6, true).unwrap().is_some());
        for (mode, layout, floor) in
            [(None, Packed6, false), (None, Bytes, true), (Int8, Packed6, false)]
        {
            assert!(rule(mode, layout, floor).unwrap_err().contains("hint"));
        }
    }

    #[test]
    fn a_period_is_steps_or_time() {
        let seconds = |n| Ok(Every::Time(Duration::from_secs(n)));
        assert_eq!(every("0"), Ok(Every::Never));
        assert_eq!(every(" 7"), Ok(Every::Steps(7)));
        assert_eq!(every("90s"), seconds(90));
        assert_eq!(every("10m"), seconds(600));
        assert_eq!(every("2h"), seconds(7200));
        for wrong in ["", "-1", "m", "0s", "1d", "1.5h", "10 m é", "99999999999999999999h"] {
            assert!(every(wrong).is_err(), "{wrong}");
        }
        for text in ["0", "7", "90s"] {
            assert_eq!(every(text).unwrap().to_string(), text);
        }
    }
}
