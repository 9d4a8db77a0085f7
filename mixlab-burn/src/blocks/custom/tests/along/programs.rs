//! Programs by what they do along T.

/// Programs that can be run on parts of rows.
pub const STREAMING: &[&str] = &[
    "x = matmul x w",
    "x = rmsnorm x v {\"eps\": 1e-5}",
    "x = layernorm x v v",
    "a = matmul x w\na = sigmoid a\none = full {\"shape\": [\"BT\", \"D\"], \"value\": 1}
     b = sub one a\nx = mul x b",
    "y = conv1d x taps\nx = add x y",
    "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\ny = conv1d y taps
     x = reshape y {\"shape\": [\"BT\", \"D\"]}",
    "x = scan x v",
    "g = sigmoid x\nx = scan_tv x g",
    "y = matmul x w\ny = slice y {\"axis\": 1, \"end\": 4}\ng = sigmoid y
     k = outer y y\ns = matrix_scan k g\nx = reshape s {\"shape\": [\"BT\", \"D\"]}",
    "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\ny = cumsum y {\"axis\": 1}
     x = reshape y {\"shape\": [\"BT\", \"D\"]}",
    "y = reshape x {\"shape\": [\"BT\", \"H\", \"HD\"]}
     z = transpose y {\"axes\": [0, 2, 1]}\ns = matmul y z\ns = softmax s\ny = matmul s y
     x = reshape y {\"shape\": [\"BT\", \"D\"]}",
    "a = slice x {\"axis\": 1, \"end\": 8}\nb = slice x {\"axis\": 1, \"start\": 8}
     x = concat b a {\"axis\": 1}",
    "a = mean x\nb = max x\nx = sub x a\nx = add x b",
    "q = matmul x w\nq = reshape q {\"shape\": [\"B\", \"T\", \"H\", \"HD\"]}
     q = transpose q {\"axes\": [0, 2, 1, 3]}\nr, k = rope q q\ny = attention r k q
     y = transpose y {\"axes\": [0, 2, 1, 3]}\ny = reshape y {\"shape\": [\"BT\", \"D\"]}
     x = add x y",
    "q = reshape x {\"shape\": [\"BT\", 1, \"H\", \"HD\"]}\ny = attention q q q
     x = reshape y {\"shape\": [\"BT\", \"D\"]}",
    "p = exp v\nx = mul x p\nv = scalar_mul v {\"scalar\": 2}",
    "k = abs x\ny = embed w k\ny = mean y {\"axis\": 1}\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
];

/// Programs in which tokens see none after them, and that take whole rows, with the operation that
/// does.
pub const WHOLE_ROWS: &[(&str, &str)] = &[
    // Attention by hand.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         s = matmul y z\ns = scalar_mul s {\"scalar\": 0.25}\ns = causal_mask s\ns = softmax s
         y = matmul s y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[2] `matmul` takes whole rows",
    ),
    // The same with a softmax by hand and a mask that is added.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         zero = full {\"shape\": [\"T\", \"T\"], \"value\": 0}\nmask = causal_mask zero
         s = matmul y z\ns = add mask s\nm = max s\ns = sub s m\ns = exp s\nn = sum s\ns = div s n
         y = matmul s y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[3] `causal_mask` takes whole rows",
    ),
    // Linear attention with a mask of ones and zeros.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         zero = full {\"shape\": [\"T\", \"T\"], \"value\": 0}\nmask = causal_mask zero
         ones = exp mask\ns = matmul y z\ns = mul s ones\ny = matmul s y
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[3] `causal_mask` takes whole rows",
    ),
    // A running mean as a product with a triangle.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}
         zero = full {\"shape\": [\"T\", \"T\"], \"value\": 0}\nmask = causal_mask zero
         share = softmax mask\ny = matmul share y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[2] `causal_mask` takes whole rows",
    ),
    // One token later, by hand.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = slice y {\"axis\": 1, \"end\": -1}
         start = full {\"shape\": [\"B\", 1, \"D\"], \"value\": 0}\nz = concat start z {\"axis\": 1}
         z = reshape z {\"shape\": [\"BT\", \"D\"]}\nx = add x z",
        "ops[1] `slice` takes whole rows",
    ),
    // Positions.
    (
        "p = arange {\"end\": \"T\"}\np = reshape p {\"shape\": [1, \"T\", 1]}
         y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\ny = add y p
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[0] `arange` takes whole rows",
    ),
    (
        "p = arange {\"end\": \"T\"}\nq = reshape x {\"shape\": [\"B\", 1, \"T\", \"D\"]}
         q, k = rope q q p\nx = reshape q {\"shape\": [\"BT\", \"D\"]}",
        "ops[0] `arange` takes whole rows",
    ),
    // What the first token says.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = slice y {\"axis\": 1, \"end\": 1}
         y = add y z\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[1] `slice` takes whole rows",
    ),
];

/// Programs in which tokens see those after them, with the operation by which they do.
pub const AHEAD: &[(&str, &str)] = &[
    ("s = softmax x {\"axis\": 0}\nx = add x s", "ops[0] `softmax`"),
    ("s = mean x {\"axis\": 0}\nx = sub x s", "ops[0] `mean`"),
    ("x = cumsum x {\"axis\": 0}", "ops[0] `cumsum`"),
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\ns = max y {\"axis\": 1}\ny = sub y s
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[1] `max`",
    ),
    // Attention to everything.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         s = matmul y z\ns = softmax s\ny = matmul s y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[3] `softmax`",
    ),
    // Masked in the wrong direction.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         s = matmul y z\ns = causal_mask s\ns = transpose s {\"axes\": [0, 2, 1]}\ns = softmax s
         y = matmul s y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[5] `softmax`",
    ),
    // Masked, and a mask that a scale undoes.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         s = matmul y z\ns = causal_mask s\ns = scalar_mul s {\"scalar\": 1e-9}\ns = softmax s
         y = matmul s y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[5] `softmax`",
    ),
    // A mask that a difference takes away again, and one whose zeros a norm moves.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         zero = full {\"shape\": [\"T\", \"T\"], \"value\": 0}\nmask = causal_mask zero
         s = matmul y z\nm = causal_mask s\ns = sub m mask\ns = softmax s
         y = matmul s y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[7] `softmax`",
    ),
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         s = matmul y z\ns = causal_mask s\ns = softmax s\ns = layernorm s
         y = matmul s y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[6] `matmul`",
    ),
    // The token after this one.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = slice y {\"axis\": 1, \"start\": 1}
         end = full {\"shape\": [\"B\", 1, \"D\"], \"value\": 0}\ny = concat z end {\"axis\": 1}
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[1] `slice`",
    ),
    // Tokens in another order.
    (
        "y = transpose x {\"axes\": [1, 0]}\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[1] `reshape`",
    ),
    (
        "y = reshape x {\"shape\": [\"T\", \"B\", \"D\"]}\ny = transpose y {\"axes\": [1, 0, 2]}
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[0] `reshape`",
    ),
    // A recurrence over everything, and one over both rows.
    ("x = scan x v {\"B\": 1, \"T\": \"BT\", \"D\": \"D\"}", "ops[0] `scan`"),
    // A state of the whole row.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         s = matmul z y\ny = matmul y s\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[2] `matmul`",
    ),
    // Rows of a table that is made of tokens.
    ("p = arange {\"end\": \"BT\", \"step\": 1}\np = neg p\nx = embed x p", "ops[2] `embed`"),
];

/// Programs in which tokens see none after them, and the analysis does not know.
pub const UNKNOWN: &[(&str, &str)] = &[
    // A mask that is computed.
    (
        "y = reshape x {\"shape\": [\"B\", \"T\", \"D\"]}\nz = transpose y {\"axes\": [0, 2, 1]}
         p = arange {\"end\": \"T\"}\nc = reshape p {\"shape\": [\"T\", 1]}\nm = greater_equal c p
         s = matmul y z\ns = mul s m\ny = matmul s y\nx = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[7] `matmul`",
    ),
    // Steps over two axes.
    (
        "y = reshape x {\"shape\": [\"B\", 2, \"T/2\", \"D\"]}\ny = tanh y
         x = reshape y {\"shape\": [\"BT\", \"D\"]}",
        "ops[0] `reshape`",
    ),
    // A weight from tokens, which no other block reads.
    (
        "v = slice x {\"axis\": 0, \"end\": 1}\nx = tanh x",
        "ops[0] `slice` (a weight is made from tokens)",
    ),
];
