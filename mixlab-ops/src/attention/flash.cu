// Softmax attention with tensor cores, forward and backward, without a T x T tensor in memory
// (Dao, 2023). A block has four warps; a warp owns 16 rows of the tile that the block keeps, and all
// walk over the tiles of the other side together. Every sum has one order: no atomics.
//
// In front of it: common.cu. Defined before both:
//   HD      head width that is computed: a multiple of 16; the real one, info.hd, may be smaller
//   CAUSAL  1 if a query sees only keys up to its own position
//   DECAY   1 if a score falls by decay[head] with each position of distance
//   TYPE    of the operands: 0 for bfloat16, 1 for float16, 2 for float, multiplied as TF32, 3 for
//           float, multiplied with all its bits: three products of TF32 for one
//   QUERIES  that attention_dkdv takes at a time: 32 or 64
//   ENTRY_name  of the one kernel that is wanted: each takes as long to compile as all the rest

constexpr int TILE = 64;
constexpr int THREADS = 128;
constexpr int CHUNK = 16 / sizeof(E); // elements that are copied at once
// Padded rows: eight of them start in eight different groups of banks.
constexpr int ROW = HD + CHUNK;
constexpr int DEEP = 32 / sizeof(E); // depth of a matrix instruction
constexpr int KS = HD / DEEP;

__device__ inline u32 shared_address(const void* p) {
    return static_cast<u32>(__cvta_generic_to_shared(p));
}

__device__ inline void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
__device__ inline void wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// The chunk of a tile that this thread copies as its `n`-th.
constexpr int ACROSS = HD / CHUNK;
__device__ inline int chunk_row(int n) {
    if constexpr (THREADS % ACROSS == 0) return threadIdx.x / ACROSS + n * (THREADS / ACROSS);
    return (threadIdx.x + n * THREADS) / ACROSS;
}
__device__ inline int chunk_column(int n) {
    if constexpr (THREADS % ACROSS == 0) return threadIdx.x % ACROSS * CHUNK;
    return (threadIdx.x + n * THREADS) % ACROSS * CHUNK;
}

// ROWS rows of a head into shared memory; what lies outside becomes zero.
template <int ROWS>
__device__ inline void load(E* to, const E* from, u32 stride, int first, int limit, int hd) {
    static_assert(ROWS * ACROSS % THREADS == 0, "each thread copies as many chunks");
#pragma unroll
    for (int n = 0; n < ROWS * ACROSS / THREADS; n++) {
        const int row = chunk_row(n), column = chunk_column(n);
        const bool inside = first + row < limit && column < hd;
        const E* source = inside ? from + (u64)(first + row) * stride + column : from;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                         shared_address(to + row * ROW + column)),
                     "l"(source), "r"(inside ? 16 : 0)
                     : "memory");
    }
}

#if TYPE == 2
// To the nearest TF32, ties away from zero: matrix instructions cut off what it lacks, which makes
// every product too small.
__device__ inline float rounded(float x) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}
#else
__device__ inline float rounded(float x) { return x; }
#endif

// Makes operands of what this thread has fetched with `load<ROWS>`, once it is there.
template <int ROWS>
__device__ inline void settle(E* tile) {
#if TYPE == 2
#pragma unroll
    for (int n = 0; n < ROWS * ACROSS / THREADS; n++) {
        float4* at = reinterpret_cast<float4*>(tile + chunk_row(n) * ROW + chunk_column(n));
        const float4 x = *at;
        *at = make_float4(rounded(x.x), rounded(x.y), rounded(x.z), rounded(x.w));
    }
#endif
}

__device__ inline void ldmatrix(u32 (&r)[4], const E* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(p)));
}

__device__ inline void ldmatrix_transposed(u32 (&r)[4], const E* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(p)));
}

#if TYPE >= 2
#define SHAPE "m16n8k8"
#define KIND "tf32"
#else
#define SHAPE "m16n8k16"
#endif
__device__ inline void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned." SHAPE ".row.col.f32." KIND "." KIND
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#if TYPE == 3
// The N floats of `x` as `x + rest`: the nearest TF32s and what those lack.
template <int N>
__device__ inline void split(u32 (&x)[N], u32 (&rest)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float whole = __uint_as_float(x[i]);
        x[i] = (x[i] + 0x1000) & 0xffffe000;
        rest[i] = __float_as_uint(whole - __uint_as_float(x[i]));
    }
}
#endif

// c += a b and d += a e for `b` the first and `e` the second half of `r`.
__device__ inline void multiply(float (&c)[4], float (&d)[4], const u32 (&a)[4], const u32 (&r)[4]) {
#if TYPE == 3
    u32 x[4] = {a[0], a[1], a[2], a[3]}, y[4] = {r[0], r[1], r[2], r[3]}, rest_x[4], rest_y[4];
    split(x, rest_x);
    split(y, rest_y);
    mma(c, rest_x, y[0], y[1]);
    mma(d, rest_x, y[2], y[3]);
    mma(c, x, rest_y[0], rest_y[1]);
    mma(d, x, rest_y[2], rest_y[3]);
    mma(c, x, y[0], y[1]);
    mma(d, x, y[2], y[3]);
#else
    mma(c, a, r[0], r[1]);
    mma(d, a, r[2], r[3]);
#endif
}

// Rows `row ..` and columns `DEEP k ..` of a tile as a left operand. A matrix of 8 rows of 16 bytes
// is what `ldmatrix` moves, whatever the bytes are.
__device__ inline void left(u32 (&a)[4], const E* tile, int row, int k) {
    const int lane = threadIdx.x % 32;
    ldmatrix(a, tile + (row + lane % 16) * ROW + k * DEEP + lane / 16 * CHUNK);
}

// c[16 rows x COLUMNS] += a b^T for `b` a tile of COLUMNS rows, `a` KS left operands.
template <int COLUMNS>
__device__ inline void scores(float (&c)[COLUMNS / 8][4], const u32 (&a)[KS][4], const E* b) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < KS; k++)
#pragma unroll
        for (int n = 0; n < COLUMNS / 16; n++) {
            u32 r[4];
            ldmatrix(r, b + (n * 16 + lane / 16 * 8 + lane % 8) * ROW + k * DEEP + lane / 8 % 2 * CHUNK);
            multiply(c[2 * n], c[2 * n + 1], a[k], r);
        }
}

// c[16 rows x HD] += p b for `b` a tile of DEPTH rows and `p` accumulators of 16 x DEPTH.
template <int DEPTH>
__device__ inline void weighted(float (&c)[N8][4], const float (&p)[DEPTH / 8][4], const E* b) {
    const int lane = threadIdx.x % 32;
#if TYPE >= 2
    // A thread has neighbouring columns of `p`, where an operand has those four apart: rows of `b`
    // are taken in that order too.
#pragma unroll
    for (int k = 0; k < DEPTH / 8; k++) {
        u32 a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = __float_as_uint(rounded(p[k][i % 2 * 2 + i / 2]));
        const E* rows = b + (k * 8 + lane % 4 * 2) * ROW + lane / 4;
#pragma unroll
        for (int n = 0; n < N8; n += 2) {
            u32 r[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                r[i] = __float_as_uint(rows[i % 2 * ROW + (n + i / 2) * 8]);
            multiply(c[n], c[n + 1], a, r);
        }
    }
#else
#pragma unroll
    for (int k = 0; k < DEPTH / 16; k++) {
        const u32 a[4] = {pack(p[2 * k][0], p[2 * k][1]), pack(p[2 * k][2], p[2 * k][3]),
                          pack(p[2 * k + 1][0], p[2 * k + 1][1]), pack(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < KS; n++) {
            u32 r[4];
            ldmatrix_transposed(r, b + (k * 16 + lane % 16) * ROW + n * 16 + lane / 16 * 8);
            multiply(c[2 * n], c[2 * n + 1], a, r);
        }
    }
#endif
}

#ifdef ENTRY_attention_forward
// y and the log-sum-exp of each row. Grid: query tiles, heads, batch.
extern "C" __global__ __launch_bounds__(THREADS) void attention_forward(
    const E* q, const E* k, const E* v, const float* decay, E* y, float* lse,
    const __grid_constant__ Info info) {
    extern __shared__ char raw[];
    E* shared = reinterpret_cast<E*>(raw);
    // Two keys and two values in turn; the queries pass through the first key.
    const int tile = gridDim.x - 1 - blockIdx.x, h = blockIdx.y, b = blockIdx.z;
    const int kv = h * info.groups / info.heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int first = tile * TILE, hd = info.hd;
    const E* keys = head(k, info.k, b, kv);
    const E* values = head(v, info.v, b, kv);
    const float scale = info.scale * LOG2E;
    const float fade = DECAY ? decay[h] * LOG2E : 0.0f;
    u32 a[KS][4];
    load<TILE>(shared, head(q, info.q, b, h), info.q.t, first, info.tq, hd);
    commit();
    wait<0>();
    settle<TILE>(shared);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < KS; i++) left(a[i], shared, warp * 16, i);
    __syncthreads();

    float o[N8][4], largest[2] = {-1e30f, -1e30f}, sum[2] = {0.0f, 0.0f};
    clear(o);
    const int all = (info.tk + TILE - 1) / TILE;
    const int last = CAUSAL ? min(all, tile + 1) : all;
    auto fetch = [&](int t) {
        E* to = shared + (t % 2) * 2 * TILE * ROW;
        load<TILE>(to, keys, info.k.t, t * TILE, info.tk, hd);
        load<TILE>(to + TILE * ROW, values, info.v.t, t * TILE, info.tk, hd);
        commit();
    };
    fetch(0);
    for (int t = 0; t < last; t++) {
        if (t + 1 < last) {
            fetch(t + 1);
            wait<1>();
        } else {
            wait<0>();
        }
        E* tile_k = shared + (t % 2) * 2 * TILE * ROW;
        settle<TILE>(tile_k);
        settle<TILE>(tile_k + TILE * ROW);
        __syncthreads();
        float s[TILE / 8][4];
        clear(s);
        scores<TILE>(s, a, tile_k);
        const bool edge = (CAUSAL && t == tile) || (t + 1) * TILE > info.tk;
        float peak[2] = {largest[0], largest[1]};
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int i = first + warp * 16 + lane / 4 + e / 2 * 8;
                const int j = t * TILE + n * 8 + lane % 4 * 2 + e % 2;
                float x = s[n][e] * scale;
                if (DECAY) x -= fade * (i - j);
                if (edge && !(j < info.tk && (!CAUSAL || j <= i))) x = -1e30f;
                s[n][e] = x;
                peak[e / 2] = fmaxf(peak[e / 2], x);
            }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            peak[r] = fmaxf(peak[r], __shfl_xor_sync(~0u, peak[r], 1));
            peak[r] = fmaxf(peak[r], __shfl_xor_sync(~0u, peak[r], 2));
            const float shrink = power(largest[r] - peak[r]);
            largest[r] = peak[r];
            sum[r] *= shrink;
#pragma unroll
            for (int n = 0; n < N8; n++) {
                o[n][2 * r] *= shrink;
                o[n][2 * r + 1] *= shrink;
            }
        }
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[n][e] = power(s[n][e] - largest[e / 2]);
                sum[e / 2] += s[n][e];
            }
        weighted<TILE>(o, s, tile_k + TILE * ROW);
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
        sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        const int i = first + warp * 16 + lane / 4 + 8 * r;
        if (lane % 4 == 0 && i < info.tq)
            lse[((u64)b * info.heads + h) * info.tq + i] = (largest[r] + log2f(sum[r])) / LOG2E;
    }
    write(head(y, info.y, b, h), info.y.t, first + warp * 16, info.tq, hd, o, 1.0f / sum[0], 1.0f / sum[1]);
}
#endif

#ifdef ENTRY_attention_delta
// delta_i = sum of g y over the head. Grid: rows / (THREADS / LANES), heads, batch; LANES a row, each of
// them a chunk.
constexpr int LANES = ACROSS <= 2 ? 2 : ACROSS <= 4 ? 4 : ACROSS <= 8 ? 8 : ACROSS <= 16 ? 16 : 32;
extern "C" __global__ __launch_bounds__(THREADS) void attention_delta(
    const E* y, const E* g, float* delta, const __grid_constant__ Info info) {
    const int i = (blockIdx.x * THREADS + threadIdx.x) / LANES, column = threadIdx.x % LANES * CHUNK;
    const int h = blockIdx.y, b = blockIdx.z;
    float sum = 0.0f;
    if (i < info.tq && column < info.hd) {
        const uint4 ys = *reinterpret_cast<const uint4*>(head(y, info.y, b, h) + (u64)i * info.y.t + column);
        const uint4 gs = *reinterpret_cast<const uint4*>(head(g, info.g, b, h) + (u64)i * info.g.t + column);
        const E* of_y = reinterpret_cast<const E*>(&ys);
        const E* of_g = reinterpret_cast<const E*>(&gs);
#pragma unroll
        for (int c = 0; c < CHUNK; c++) sum += wide(of_y[c]) * wide(of_g[c]);
    }
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (column == 0 && i < info.tq) delta[((u64)b * info.heads + h) * info.tq + i] = sum;
}
#endif

#ifdef ENTRY_attention_dq
// dq, and with DECAY the block's part of the gradient of the decay. Grid: query tiles, heads, batch.
extern "C" __global__ __launch_bounds__(THREADS) void attention_dq(
    const E* q, const E* k, const E* v, const E* g, const float* decay, const float* lse,
    const float* delta, E* dq, float* ddecay, const __grid_constant__ Info info) {
    extern __shared__ char raw[];
    E* shared = reinterpret_cast<E*>(raw);
    const int tile = gridDim.x - 1 - blockIdx.x, h = blockIdx.y, b = blockIdx.z;
    const int kv = h * info.groups / info.heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int first = tile * TILE, hd = info.hd;
    const E* keys = head(k, info.k, b, kv);
    const E* values = head(v, info.v, b, kv);
    const float scale = info.scale * LOG2E;
    const float fade = DECAY ? decay[h] * LOG2E : 0.0f;
    u32 a[KS][4], ga[KS][4];
    load<TILE>(shared, head(q, info.q, b, h), info.q.t, first, info.tq, hd);
    load<TILE>(shared + TILE * ROW, head(g, info.g, b, h), info.g.t, first, info.tq, hd);
    commit();
    wait<0>();
    settle<TILE>(shared);
    settle<TILE>(shared + TILE * ROW);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < KS; i++) {
        left(a[i], shared, warp * 16, i);
        left(ga[i], shared + TILE * ROW, warp * 16, i);
    }
    __syncthreads();
    float l[2], d[2], fall = 0.0f;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int i = first + warp * 16 + lane / 4 + 8 * r;
        const u64 at = ((u64)b * info.heads + h) * info.tq + i;
        l[r] = i < info.tq ? lse[at] * LOG2E : 0.0f;
        d[r] = i < info.tq ? delta[at] : 0.0f;
    }
    float o[N8][4];
    clear(o);
    const int all = (info.tk + TILE - 1) / TILE;
    const int last = CAUSAL ? min(all, tile + 1) : all;
    auto fetch = [&](int t) {
        E* to = shared + (t % 2) * 2 * TILE * ROW;
        load<TILE>(to, keys, info.k.t, t * TILE, info.tk, hd);
        load<TILE>(to + TILE * ROW, values, info.v.t, t * TILE, info.tk, hd);
        commit();
    };
    fetch(0);
    for (int t = 0; t < last; t++) {
        if (t + 1 < last) {
            fetch(t + 1);
            wait<1>();
        } else {
            wait<0>();
        }
        E* tile_k = shared + (t % 2) * 2 * TILE * ROW;
        settle<TILE>(tile_k);
        settle<TILE>(tile_k + TILE * ROW);
        __syncthreads();
        float s[TILE / 8][4], dp[TILE / 8][4];
        clear(s);
        clear(dp);
        scores<TILE>(s, a, tile_k);
        scores<TILE>(dp, ga, tile_k + TILE * ROW);
        const bool edge = (CAUSAL && t == tile) || (t + 1) * TILE > info.tk;
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int i = first + warp * 16 + lane / 4 + e / 2 * 8;
                const int j = t * TILE + n * 8 + lane % 4 * 2 + e % 2;
                float x = s[n][e] * scale - l[e / 2];
                if (DECAY) x -= fade * (i - j);
                const bool hidden = edge && !(j < info.tk && (!CAUSAL || j <= i));
                const float p = hidden ? 0.0f : power(x);
                const float ds = p * (dp[n][e] - d[e / 2]);
                if (DECAY) fall -= ds * (i - j);
                s[n][e] = ds;
            }
        weighted<TILE>(o, s, tile_k);
        __syncthreads();
    }
    write(head(dq, info.dq, b, h), info.dq.t, first + warp * 16, info.tq, hd, o, info.scale, info.scale);
#if DECAY
    __shared__ float falls[THREADS / 32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) fall += __shfl_xor_sync(~0u, fall, step);
    if (lane == 0) falls[warp] = fall;
    __syncthreads();
    if (threadIdx.x == 0)
        ddecay[((u64)b * gridDim.x + tile) * info.heads + h] = falls[0] + falls[1] + falls[2] + falls[3];
#endif
}
#endif

#ifdef ENTRY_attention_dkdv
// dk and dv, summed over the query heads of a group. Grid: key tiles, groups, batch. A warp keeps 16
// keys and computes the transposed scores; QUERIES at a time.
extern "C" __global__ __launch_bounds__(THREADS) void attention_dkdv(
    const E* q, const E* k, const E* v, const E* g, const float* decay, const float* lse,
    const float* delta, E* dk, E* dv, const __grid_constant__ Info info) {
    extern __shared__ char raw[];
    E* tile_k = reinterpret_cast<E*>(raw);
    E* tile_v = tile_k + TILE * ROW;
    E* pairs = tile_v + TILE * ROW; // two times: queries, their gradients
    __shared__ float rows[2][2][QUERIES];
    const int tile = blockIdx.x, kv = blockIdx.y, b = blockIdx.z;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = tile * TILE, hd = info.hd;
    const int per_group = info.heads / info.groups;
    const float scale = info.scale * LOG2E;
    load<TILE>(tile_k, head(k, info.k, b, kv), info.k.t, first, info.tk, hd);
    load<TILE>(tile_v, head(v, info.v, b, kv), info.v.t, first, info.tk, hd);
    commit();
    const int start = CAUSAL ? first / QUERIES : 0;
    const int each = (info.tq + QUERIES - 1) / QUERIES - start;
    const int count = each > 0 ? each * per_group : 0;
    auto fetch = [&](int step) {
        const int h = kv * per_group + step / each, t = start + step % each;
        E* to = pairs + (step % 2) * 2 * QUERIES * ROW;
        load<QUERIES>(to, head(q, info.q, b, h), info.q.t, t * QUERIES, info.tq, hd);
        load<QUERIES>(to + QUERIES * ROW, head(g, info.g, b, h), info.g.t, t * QUERIES, info.tq, hd);
        commit();
        for (int i = threadIdx.x; i < QUERIES; i += THREADS) {
            const bool inside = t * QUERIES + i < info.tq;
            const u64 at = ((u64)b * info.heads + h) * info.tq + t * QUERIES + i;
            rows[step % 2][0][i] = inside ? lse[at] * LOG2E : 0.0f;
            rows[step % 2][1][i] = inside ? delta[at] : 0.0f;
        }
    };
    float ok[N8][4], ov[N8][4];
    clear(ok);
    clear(ov);
    if (count > 0) fetch(0);
    for (int step = 0; step < count; step++) {
        if (step + 1 < count) {
            fetch(step + 1);
            wait<1>();
        } else {
            wait<0>();
        }
        E* tile_q = pairs + (step % 2) * 2 * QUERIES * ROW;
        E* tile_g = tile_q + QUERIES * ROW;
        if (step == 0) {
            settle<TILE>(tile_k);
            settle<TILE>(tile_v);
        }
        settle<QUERIES>(tile_q);
        settle<QUERIES>(tile_g);
        __syncthreads();
        const int h = kv * per_group + step / each, t = start + step % each;
        const float fade = DECAY ? decay[h] * LOG2E : 0.0f;
        float s[QUERIES / 8][4], dp[QUERIES / 8][4];
        clear(s);
        clear(dp);
        {
            u32 a[KS][4];
#pragma unroll
            for (int i = 0; i < KS; i++) left(a[i], tile_k, warp * 16, i);
            scores<QUERIES>(s, a, tile_q);
        }
        {
            u32 a[KS][4];
#pragma unroll
            for (int i = 0; i < KS; i++) left(a[i], tile_v, warp * 16, i);
            scores<QUERIES>(dp, a, tile_g);
        }
        const bool edge =
            (CAUSAL && t * QUERIES < first + TILE - 1) || (t + 1) * QUERIES > info.tq;
#pragma unroll
        for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int at = n * 8 + lane % 4 * 2 + e % 2, i = t * QUERIES + at;
                const int j = first + warp * 16 + lane / 4 + e / 2 * 8;
                float x = s[n][e] * scale - rows[step % 2][0][at];
                if (DECAY) x -= fade * (i - j);
                const bool hidden = edge && !(i < info.tq && (!CAUSAL || j <= i));
                const float p = hidden ? 0.0f : power(x);
                s[n][e] = p;
                dp[n][e] = p * (dp[n][e] - rows[step % 2][1][at]);
            }
        weighted<QUERIES>(ov, s, tile_g);
        weighted<QUERIES>(ok, dp, tile_q);
        __syncthreads();
    }
    wait<0>();
    write(head(dk, info.dk, b, kv), info.dk.t, first + warp * 16, info.tk, hd, ok, info.scale, info.scale);
    write(head(dv, info.dv, b, kv), info.dv.t, first + warp * 16, info.tk, hd, ov, 1.0f, 1.0f);
}
#endif
