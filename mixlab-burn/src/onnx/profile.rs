//! Which operations a file may have.

/// What a file is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Opset 18 and IR version 8: onnxruntime from 1.20 on, and most other runtimes.
    #[default]
    Portable,
    /// Opset 23 and IR version 10, with `Attention`, `RMSNormalization` and `RotaryEmbedding`:
    /// onnxruntime from 1.23 on.
    Modern,
    /// Opset 21 and IR version 10, for files of [`trace_genai`](super::trace_genai):
    /// onnxruntime-genai 0.18.
    Genai,
}

impl Profile {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Modern, Self::Genai];

    /// What files and flags call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Modern => "modern",
            Self::Genai => "genai",
        }
    }

    /// The first version of onnxruntime that was seen to run such files.
    pub fn least_runtime(self) -> &'static str {
        match self {
            Self::Portable => "onnxruntime 1.20",
            Self::Modern => "onnxruntime 1.23",
            Self::Genai => "onnxruntime-genai 0.18",
        }
    }

    /// Whether blocks are functions of the file: where only onnxruntime is to run it, since others do
    /// not look into functions (tract 0.23).
    pub(super) fn functions(self) -> bool {
        self != Self::Portable
    }

    /// Version of the operations of the default domain.
    pub(super) fn opset(self) -> i64 {
        match self {
            Self::Portable => 18,
            Self::Modern => 23,
            Self::Genai => 21,
        }
    }

    pub(super) fn ir_version(self) -> i64 {
        match self {
            Self::Portable => 8,
            Self::Modern | Self::Genai => 10,
        }
    }
}
