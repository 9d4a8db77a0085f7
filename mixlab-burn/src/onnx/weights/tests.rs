use super::*;

const SMALLER: [WeightType; 4] =
    [WeightType::F16, WeightType::Bf16, WeightType::Int8, WeightType::Int4];

/// Rows of different sizes, none of them round.
fn values(rows: usize, columns: usize) -> Vec<f32> {
    let one =
        |at: usize| ((at * 7919 + 13) % 1009) as f32 / 504.5 - 1.0 + (at / columns) as f32 * 0.01;
    (0..rows * columns).map(one).collect()
}

/// The most that an element may be off, by the format alone.
fn bound(format: Format, stored: &Stored<'_>, at: usize) -> f32 {
    let value = stored.values[at].abs();
    match format {
        // Half of the last place; the smallest numbers of f16 are 2⁻²⁴ apart.
        Format::Half(DType::F16) => (value * 2f32.powi(-11)).max(2f32.powi(-25)),
        Format::Half(_) => value * 2f32.powi(-8),
        // Half a level; a whole one where 4 bits have no integer on the shorter side.
        Format::Scaled(grid) => {
            let scale = stored.scales[grid.scale(at)].abs();
            let clamped = grid.bits == 4 && value > 7.5 * scale;
            scale * if clamped { 1.0 } else { 0.5 } * (1.0 + 1e-5)
        }
    }
}

#[test]
fn what_is_lost_is_within_the_format() {
    for kind in SMALLER {
        for looked_up in [false, true] {
            for [rows, columns] in [[64, 48], [33, 35], [3, 257]] {
                let values = values(rows, columns);
                let format = kind.format(&[rows, columns], looked_up).unwrap();
                let stored = Stored::new(&values, format).unwrap();
                let rounded = stored.rounded();
                let mut lost = 0f64;
                for (at, (now, before)) in rounded.iter().zip(&values).enumerate() {
                    let off = (now - before).abs();
                    assert!(off <= bound(format, &stored, at), "{kind:?} {at} {before} {now}");
                    lost += f64::from(off).powi(2);
                }
                assert!(lost > 0.0, "{kind:?} has lost nothing: nothing was tested");
                assert!((stored.squares()[0] - lost).abs() < 1e-9 * lost);
            }
        }
    }
}

#[test]
fn the_bytes_hold_what_is_computed_with() {
    for [rows, columns] in [[64, 48], [33, 35]] {
        let values = values(rows, columns);
        for looked_up in [false, true] {
            let format = WeightType::Int4.format(&[rows, columns], looked_up).unwrap();
            let stored = Stored::new(&values, format).unwrap();
            let mut bytes = Vec::new();
            let mut sink = |piece: &[u8]| {
                bytes.extend_from_slice(piece);
                Ok(())
            };
            stored.write(&mut sink).unwrap();
            let length = if looked_up { values.len() } else { values.len().div_ceil(2) };
            assert_eq!(bytes.len(), length);
            for (at, expected) in stored.rounded().into_iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                // Tables have bytes, and a scale a row.
                let (q, scale) = if looked_up {
                    (bytes[at] as i8, row)
                } else {
                    let nibble = bytes[at / 2] >> (4 * (at % 2)) & 15;
                    let q = if nibble > 7 { nibble as i8 - 16 } else { nibble as i8 };
                    (q, row / 32 * columns + column)
                };
                assert_eq!(f32::from(q) * stored.scales[scale], expected);
            }
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    let zeros = [0.0; 320];
    for kind in SMALLER {
        let format = kind.format(&[32, 10], false).unwrap();
        assert!(Stored::new(&zeros, format).unwrap().rounded().iter().all(|v| *v == 0.0));
    }
}

#[test]
fn f16_refuses_what_it_cannot_hold() {
    let mut values = values(32, 10);
    values[7] = -70_000.0;
    let format = |kind: WeightType| kind.format(&[32, 10], false).unwrap();
    let refused = Stored::new(&values, format(WeightType::F16)).err().unwrap();
    assert!(refused.contains("-70000"), "{refused}");
    assert!(Stored::new(&values, format(WeightType::Bf16)).is_ok());
}

#[test]
fn vectors_and_small_weights_stay_as_they_are() {
    for kind in SMALLER {
        assert_eq!(kind.format(&[1000], false), None);
        assert_eq!(kind.format(&[4, 4], false), None);
    }
    assert_eq!(WeightType::Int8.format(&[4, 40, 40], false), None);
    assert!(WeightType::Bf16.format(&[4, 40, 40], false).is_some());
    assert_eq!(WeightType::F32.format(&[400, 40], false), None);
}

#[test]
fn int4_is_refused_where_no_operation_reads_it() {
    let refused = WeightType::Int4.check(Profile::Portable).unwrap_err().to_string();
    assert!(refused.contains("opset 21") && refused.contains("hint: "), "{refused}");
    for profile in [Profile::Modern, Profile::Genai] {
        assert!(WeightType::Int4.check(profile).is_ok());
    }
}
