//! Normal draws by the ziggurat method: 128 strips of equal area under exp(−x²/2).

use std::sync::OnceLock;

use super::Generator;

/// Where the tail begins.
const TAIL: f64 = 3.442619855899;
/// Area of every strip.
const AREA: f64 = 9.91256303526217e-3;
/// Draws are 32-bit signed: their magnitude is below this.
const SCALE: f64 = (1u64 << 31) as f64;

struct Strips {
    /// A draw of smaller magnitude lies wholly inside its strip.
    inside: [u32; 128],
    /// Width of a strip for one unit of the draw.
    width: [f32; 128],
    /// Density at the strip's outer edge.
    density: [f32; 128],
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp()
}

impl Strips {
    fn new() -> Self {
        let mut strips = Self { inside: [0; 128], width: [0.0; 128], density: [0.0; 128] };
        let base = AREA / density(TAIL);
        strips.inside[0] = (TAIL / base * SCALE) as u32;
        strips.width[0] = (base / SCALE) as f32;
        strips.density[0] = 1.0;
        strips.width[127] = (TAIL / SCALE) as f32;
        strips.density[127] = density(TAIL) as f32;
        let mut edge = TAIL;
        for i in (1..127).rev() {
            let next = (-2.0 * (AREA / edge + density(edge)).ln()).sqrt();
            strips.inside[i + 1] = (next / edge * SCALE) as u32;
            strips.density[i] = density(next) as f32;
            strips.width[i] = (next / SCALE) as f32;
            edge = next;
        }
        strips
    }

    fn get() -> &'static Self {
        static STRIPS: OnceLock<Strips> = OnceLock::new();
        STRIPS.get_or_init(Self::new)
    }
}

/// One standard normal value.
pub(super) fn draw(generator: &mut Generator) -> f64 {
    let strips = Strips::get();
    loop {
        let draw = generator.uint32() as i32;
        let i = (draw & 127) as usize;
        let x = f64::from(draw) * f64::from(strips.width[i]);
        if draw.unsigned_abs() < strips.inside[i] {
            return x;
        }
        if i == 0 {
            let distance = TAIL + beyond_tail(generator);
            return if draw > 0 { distance } else { -distance };
        }
        let step = strips.density[i - 1] - strips.density[i];
        let height = strips.density[i] + generator.float64() as f32 * step;
        if height < density(x) as f32 {
            return x;
        }
    }
}

/// Distance beyond the tail's beginning.
fn beyond_tail(generator: &mut Generator) -> f64 {
    loop {
        let x = -generator.float64().ln() * (1.0 / TAIL);
        let y = -generator.float64().ln();
        if y + y >= x * x {
            return x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_strips_have_the_same_area() {
        let strips = Strips::new();
        let edge = |i: usize| f64::from(strips.width[i]) * SCALE;
        for i in 2..128 {
            let height = f64::from(strips.density[i - 1]) - f64::from(strips.density[i]);
            // Densities are f32: their difference is known to about 6e-8, times an edge below 3.5.
            assert!((edge(i) * height - AREA).abs() < 3e-7, "strip {i}");
        }
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut generator = Generator::new(3);
        let n = 100_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = draw(&mut generator);
            sum += x;
            squares += x * x;
        }
        let n = f64::from(n);
        // Five standard errors: 1/sqrt(n) of the mean, sqrt(2/n) of the variance.
        assert!((sum / n).abs() < 5.0 / n.sqrt());
        assert!((squares / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
    }
}
