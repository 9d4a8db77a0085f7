// Softmax attention on Hopper, forward and backward, without a T x T tensor in memory (Dao, 2023;
// Shah et al., 2024). Warpgroups keep 64 rows each, and walk over tiles of the other side, which the
// bulk copy engine brings: one warp more than they have asks it to. Every sum has one order: no
// atomics.
//
// In front of it: barriers.cu and common.cu. Defined before these:
//   HD      head width that is computed: 16, 32, 64, 96 or 128; the real one may be smaller
//   CAUSAL  1 if a query sees only keys up to its own position
//   DECAY   1 if a score falls by decay[head] with each position of distance
//   TYPE    of the operands: 0 for bfloat16, 1 for float16, 2 for float, multiplied as TF32
//   GROUPS  warpgroups of a block
//   STAGES  tiles in flight
//   WIDE    1 if the block has the multiprocessor to itself, and its warpgroups all registers
//   BLOCKS  that share a multiprocessor, by the registers of their threads
//   ENTRY_name  of the one kernel that is wanted
//
// Tensor maps have axes [batch, head, position, channel], boxes of 64 positions by PANEL channels,
// and the swizzle of as many bytes. Reads out of bounds are zero; those of TF32 are rounded.

constexpr int KEPT = 64 * GROUPS; // rows that a block keeps
constexpr int TILE = 64;          // rows of the tiles that it walks over
constexpr int THREADS = 128 * GROUPS + (WIDE ? 128 : 32);
constexpr int SIZE = sizeof(E);
constexpr u32 ROW = SIZE * HD;
constexpr int ACROSS = ROW % 128 == 0 ? 128 : ROW % 64 == 0 ? 64 : 32; // bytes of a panel's row
constexpr int PANEL = ACROSS / SIZE;                                   // channels of a box
constexpr int DEEP = 32 / SIZE; // depth of a matrix instruction

// Once for all threads of a warp.
__device__ inline void warp_arrive(u32 barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(barrier);
}
// ROWS rows of a head from `row` on: panels behind each other.
template <int ROWS>
__device__ inline void load(u32 to, const TensorMap* map, u32 barrier, int row, int h, int b) {
#pragma unroll
    for (int p = 0; p < HD / PANEL; p++)
#pragma unroll
        for (int r = 0; r < ROWS; r += 64)
            asm volatile(
                "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
                " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to + (p * ROWS + r) * ACROSS),
                "l"(map), "r"(barrier), "r"(p * PANEL), "r"(row + r), "r"(h), "r"(b)
                : "memory");
}

// Descriptor of an operand in shared memory: `next` bytes from one panel to the next, eight rows
// behind the eight before.
__device__ inline u64 descriptor(u32 address, u32 next) {
    constexpr u64 SWIZZLE = ACROSS == 128 ? 1 : ACROSS == 64 ? 2 : 3;
    return (u64)(address >> 4) | ((u64)(next >> 4) << 16) | ((u64)(ACROSS / 2) << 32) | (SWIZZLE << 62);
}

#define FOUR(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#if TYPE == 2
#define SCORES "wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32"
#define ORDER ""
#else
#define INSTRUCTION(n) "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." KIND "." KIND
#define SCORES INSTRUCTION("64")
#define ORDER ", 0, 0"
#endif

// c[64 rows x 64] = a b^T, or += if `add`, for operands in shared memory.
__device__ inline void multiply(float (&c)[8][4], u64 a, u64 b, int add) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; " SCORES
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18,"
                 " %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31},"
                 " %32, %33, p, 1, 1" ORDER "; }"
                 : FOUR(0), FOUR(1), FOUR(2), FOUR(3), FOUR(4), FOUR(5), FOUR(6), FOUR(7)
                 : "l"(a), "l"(b), "r"(add));
}

#if TYPE != 2
#define LEFT "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
// c[64 rows x N] += a b for `a` in registers.
template <int N>
__device__ inline void multiply(float (*c)[4], const u32 (&a)[4], u64 b) {
    if constexpr (N == 64)
        asm volatile(INSTRUCTION("64")
                     " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16,"
                     " %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31},"
                     " {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                     : FOUR(0), FOUR(1), FOUR(2), FOUR(3), FOUR(4), FOUR(5), FOUR(6), FOUR(7)
                     : LEFT, "l"(b));
    else if constexpr (N == 32)
        asm volatile(INSTRUCTION("32")
                     " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15},"
                     " {%16, %17, %18, %19}, %20, 1, 1, 1, 1;"
                     : FOUR(0), FOUR(1), FOUR(2), FOUR(3)
                     : LEFT, "l"(b));
    else
        asm volatile(INSTRUCTION("16")
                     " {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, 1, 1, 1, 1;"
                     : FOUR(0), FOUR(1)
                     : LEFT, "l"(b));
}
#endif

// Before products whose operands in registers were written, and after the last of a group.
__device__ inline void begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void end() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits for all products but those of the last LATER groups; `c` are sums that are there now.
template <int LATER, int N>
__device__ inline void finish(float (&c)[N][4]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LATER) : "memory");
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : FOUR(i)::"memory");
}

// Begins c[64 rows x TILE] = a b^T: `a` are this warpgroup's rows of KEPT, `b` a tile.
__device__ inline void scores(float (&c)[TILE / 8][4], u32 a, u32 b) {
    begin();
#pragma unroll
    for (int k = 0; k < HD; k += DEEP) {
        const int panel = k / PANEL, within = k % PANEL * SIZE;
        multiply(c, descriptor(a + panel * KEPT * ACROSS + within, 16),
                 descriptor(b + panel * TILE * ACROSS + within, 16), k > 0);
    }
    end();
}

#if TYPE == 2
// To the nearest TF32, ties away from zero: matrix instructions cut off what it lacks.
__device__ inline u32 rounded(float x) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

// c[64 rows x HD] += p b for `b` a tile and `p` 64 x TILE. Warpgroup instructions would want `b` with
// its columns innermost, so each warp multiplies by itself. A thread has neighbouring columns of `p`,
// where an operand has those four apart: rows of `b` are taken in that order too.
__device__ inline void weighted(float (&c)[N8][4], const float (&p)[TILE / 8][4], u32 b) {
    const int lane = threadIdx.x % 32, first = lane % 4 * 2;
    // Chunks of 16 bytes are swapped by the row within eight; of a thread's two rows by 0 and by 1.
    u32 to[2][2];
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = first + r, chunk = lane / 16 + 2 * half;
            to[r][half] = b + row * ACROSS + lane / 4 % 4 * 4 + ((chunk ^ row * ACROSS / 128 % (ACROSS / 16)) * 16);
        }
#pragma unroll
    for (int k = 0; k < TILE / 8; k++) {
        u32 a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = rounded(p[k][i % 2 * 2 + i / 2]);
#pragma unroll
        for (int n = 0; n < N8; n++) {
            u32 r[2];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                // Chunk 2 n + lane / 16: what is above two bits of it is one bit more to swap.
                const u32 across = n * 8 % PANEL / 16 * 64;
                const u32 at = (to[i][n % 2] ^ across) + (n * 8 / PANEL * TILE + k * 8) * ACROSS;
                asm volatile("ld.shared.b32 %0, [%1];" : "=r"(r[i]) : "r"(at));
            }
            asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3},"
                         " {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                         : "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(r[0]), "r"(r[1]));
        }
    }
}
#else
// Begins c[64 rows x HD] += p b for `b` a tile and `p` 64 x TILE.
__device__ inline void weighted(float (&c)[N8][4], const float (&p)[TILE / 8][4], u32 b) {
    u32 a[TILE / 16][4];
#pragma unroll
    for (int k = 0; k < TILE / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[k][i] = pack(p[2 * k + i / 2][i % 2 * 2], p[2 * k + i / 2][i % 2 * 2 + 1]);
    begin();
#pragma unroll
    for (int k = 0; k < TILE / 16; k++)
#pragma unroll
        for (int n = 0; n < HD; n += PANEL)
            multiply<PANEL>(c + n / 8, a[k], descriptor(b + n * TILE * SIZE + k * 16 * ACROSS, TILE * ACROSS));
    end();
}

#endif

template <int N>
__device__ inline void powers(float (&s)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) s[n][e] = power(s[n][e]);
}

// The copying warp's registers for those that compute.
__device__ inline void give() {
    if (WIDE) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
}
__device__ inline void take() {
    if (WIDE) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
}

// The memory of a block: tiles at multiples of 1024 bytes, and barriers.
struct Memory {
    u32 tiles, kept, full, empty;
};

// COUNT: how many arrive when a stage is full.
template <int COUNT>
__device__ inline Memory memory() {
    extern __shared__ char raw[];
    __shared__ alignas(8) u64 barriers[2 * STAGES + 1];
    Memory m;
    m.tiles = (shared_address(raw) + 1023) & ~1023u;
    m.kept = shared_address(barriers);
    m.full = m.kept + 8;
    m.empty = m.full + 8 * STAGES;
    if (threadIdx.x == 0) {
        barrier_init(m.kept, 1);
        for (int s = 0; s < STAGES; s++) {
            barrier_init(m.full + 8 * s, COUNT);
            barrier_init(m.empty + 8 * s, 4 * GROUPS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    return m;
}

// Which stage is next, and how often it was.
struct Stage {
    u32 index = 0, parity = 0;
    __device__ inline void next() {
        if (++index == STAGES) {
            index = 0;
            parity ^= 1;
        }
    }
};

// Scores of keys that a query does not see, of those from `key` on; `row` is the thread's first query
// less its first key.
__device__ inline void hide(float (&s)[TILE / 8][4], const Info& info, int row, int key) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int j = key + n * 8 + e % 2;
            if ((CAUSAL && j > row + e / 2 * 8) || j + lane % 4 * 2 >= info.tk) s[n][e] = -1e30f;
        }
}

// Tiles of keys that 64 queries from `own` on walk over.
__device__ inline int tiles_before(const Info& info, int own) {
    const int all = (info.tk + TILE - 1) / TILE;
    return CAUSAL ? min(all, (own + 63) / TILE + 1) : all;
}

__device__ inline bool edge(const Info& info, int t, int own) {
    return (CAUSAL && (t + 1) * TILE > own + 1) || (t + 1) * TILE > info.tk;
}

#ifdef ENTRY_attention_forward
// y and the log-sum-exp of each row; the scale is not negative. Grid: query tiles, heads, batch.
extern "C" __global__ __launch_bounds__(THREADS, BLOCKS) void attention_forward(
    const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
    const __grid_constant__ TensorMap v_map, const E*, const E*, const E*, const float* decay, E* y,
    float* lse, const __grid_constant__ Info info) {
    const Memory at = memory<1>();
    const int tile = gridDim.x - 1 - blockIdx.x, h = blockIdx.y, b = blockIdx.z;
    const int kv = h * info.groups / info.heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int first = tile * KEPT, own = first + warp / 4 * 64;
    const u32 stages = at.tiles + KEPT * ROW;
    constexpr u32 BYTES = 2 * TILE * ROW;
    Stage stage;
    if (warp >= 4 * GROUPS) {
        give();
        if (warp > 4 * GROUPS || lane != 0) return;
        barrier_expect(at.kept, KEPT * ROW);
        load<KEPT>(at.tiles, &q_map, at.kept, first, h, b);
        const int last = tiles_before(info, first + KEPT - 64);
        for (int t = 0; t < last; t++) {
            barrier_wait(at.empty + 8 * stage.index, stage.parity ^ 1);
            const u32 full = at.full + 8 * stage.index, to = stages + stage.index * BYTES;
            barrier_expect(full, BYTES);
            load<TILE>(to, &k_map, full, t * TILE, kv, b);
            load<TILE>(to + BYTES / 2, &v_map, full, t * TILE, kv, b);
            stage.next();
        }
        return;
    }
    take();
    const float fade = DECAY ? decay[h] * LOG2E : 0.0f;
    // With decays scores are scaled before they are compared.
    const float scale = DECAY ? 1.0f : info.scale * LOG2E, before = info.scale * LOG2E;
    const u32 queries = at.tiles + warp / 4 * 64 * ACROSS;
    const int row = first + warp * 16 + lane / 4 - lane % 4 * 2;
    float o[N8][4], largest[2] = {-1e30f, -1e30f}, sum[2] = {0.0f, 0.0f};
    clear(o);
    barrier_wait(at.kept, 0);
    const int last = tiles_before(info, own);
    for (int t = 0; t < last; t++) {
        const u32 keys = stages + stage.index * BYTES;
        float s[TILE / 8][4];
        barrier_wait(at.full + 8 * stage.index, stage.parity);
        scores(s, queries, keys);
        finish<0>(s);
        if (DECAY)
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[n][e] = s[n][e] * before - fade * (row + e / 2 * 8 - t * TILE - n * 8 - e % 2);
        if (edge(info, t, own)) hide(s, info, row, t * TILE);
        float peak[2] = {largest[0], largest[1]};
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) peak[e / 2] = fmaxf(peak[e / 2], s[n][e]);
        float base[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            peak[r] = fmaxf(peak[r], __shfl_xor_sync(~0u, peak[r], 1));
            peak[r] = fmaxf(peak[r], __shfl_xor_sync(~0u, peak[r], 2));
            const float shrink = power((largest[r] - peak[r]) * scale);
            largest[r] = peak[r];
            base[r] = peak[r] * scale;
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
                s[n][e] = power(s[n][e] * scale - base[e / 2]);
                sum[e / 2] += s[n][e];
            }
        weighted(o, s, keys + BYTES / 2);
        finish<0>(o);
        warp_arrive(at.empty + 8 * stage.index);
        stage.next();
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
        sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        const int i = first + warp * 16 + lane / 4 + 8 * r;
        if (lane % 4 == 0 && i < info.tq)
            lse[((u64)b * info.heads + h) * info.tq + i] = (largest[r] * scale + log2f(sum[r])) / LOG2E;
    }
    write(head(y, info.y, b, h), info.y.t, first + warp * 16, info.tq, info.hd, o, 1.0f / sum[0],
          1.0f / sum[1]);
}
#endif

#ifdef ENTRY_attention_dq
// dq, and with DECAY the block's part of the gradient of the decay. Grid: query tiles, heads, batch.
extern "C" __global__ __launch_bounds__(THREADS, BLOCKS) void attention_dq(
    const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
    const __grid_constant__ TensorMap v_map, const __grid_constant__ TensorMap g_map, const E*,
    const E*, const E*, const E*, const float* decay, const float* lse, const float* delta, E* dq,
    float* ddecay, const __grid_constant__ Info info) {
    const Memory at = memory<1>();
    const int tile = gridDim.x - 1 - blockIdx.x, h = blockIdx.y, b = blockIdx.z;
    const int kv = h * info.groups / info.heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int first = tile * KEPT, own = first + warp / 4 * 64;
    const u32 stages = at.tiles + 2 * KEPT * ROW;
    constexpr u32 BYTES = 2 * TILE * ROW;
    Stage stage;
    float fall = 0.0f;
    if (warp >= 4 * GROUPS) {
        give();
        if (warp == 4 * GROUPS && lane == 0) {
            barrier_expect(at.kept, 2 * KEPT * ROW);
            load<KEPT>(at.tiles, &q_map, at.kept, first, h, b);
            load<KEPT>(at.tiles + KEPT * ROW, &g_map, at.kept, first, h, b);
            const int last = tiles_before(info, first + KEPT - 64);
            for (int t = 0; t < last; t++) {
                barrier_wait(at.empty + 8 * stage.index, stage.parity ^ 1);
                const u32 full = at.full + 8 * stage.index, to = stages + stage.index * BYTES;
                barrier_expect(full, BYTES);
                load<TILE>(to, &k_map, full, t * TILE, kv, b);
                load<TILE>(to + BYTES / 2, &v_map, full, t * TILE, kv, b);
                stage.next();
            }
        }
    } else {
        take();
        const float scale = info.scale * LOG2E, fade = DECAY ? decay[h] * LOG2E : 0.0f;
        const u32 queries = at.tiles + warp / 4 * 64 * ACROSS, gradients = queries + KEPT * ROW;
        const int row = first + warp * 16 + lane / 4 - lane % 4 * 2;
        float l[2], d[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int i = first + warp * 16 + lane / 4 + 8 * r;
            const u64 from = ((u64)b * info.heads + h) * info.tq + i;
            l[r] = i < info.tq ? lse[from] * LOG2E : 0.0f;
            d[r] = i < info.tq ? delta[from] : 0.0f;
        }
        float o[N8][4];
        clear(o);
        barrier_wait(at.kept, 0);
        const int last = tiles_before(info, own);
        for (int t = 0; t < last; t++) {
            const u32 keys = stages + stage.index * BYTES;
            float s[TILE / 8][4], dp[TILE / 8][4];
            barrier_wait(at.full + 8 * stage.index, stage.parity);
            scores(s, queries, keys);
            scores(dp, gradients, keys + BYTES / 2);
            finish<1>(s);
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    s[n][e] = s[n][e] * scale - l[e / 2];
                    if (DECAY) s[n][e] -= fade * (row + e / 2 * 8 - t * TILE - n * 8 - e % 2);
                }
            if (edge(info, t, own)) hide(s, info, row, t * TILE);
            powers(s);
            finish<0>(dp);
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    s[n][e] *= dp[n][e] - d[e / 2];
                    if (DECAY) fall -= s[n][e] * (row + e / 2 * 8 - t * TILE - n * 8 - e % 2);
                }
            weighted(o, s, keys);
            finish<0>(o);
            warp_arrive(at.empty + 8 * stage.index);
            stage.next();
        }
        write(head(dq, info.dq, b, h), info.dq.t, first + warp * 16, info.tq, info.hd, o, info.scale,
              info.scale);
    }
#if DECAY
    __shared__ float falls[THREADS / 32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) fall += __shfl_xor_sync(~0u, fall, step);
    if (lane == 0) falls[warp] = fall;
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 4 * GROUPS; i++) sum += falls[i];
        ddecay[((u64)b * gridDim.x + tile) * info.heads + h] = sum;
    }
#endif
}
#endif

#ifdef ENTRY_attention_dkdv
// dk and dv, summed over the query heads of a group. Grid: key tiles, groups, batch. A warpgroup keeps
// 64 keys and computes the transposed scores.
extern "C" __global__ __launch_bounds__(THREADS, BLOCKS) void attention_dkdv(
    const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
    const __grid_constant__ TensorMap v_map, const __grid_constant__ TensorMap g_map, const E*,
    const E*, const E*, const E*, const float* decay, const float* lse, const float* delta, E* dk,
    E* dv, const __grid_constant__ Info info) {
    // The log-sum-exp of a tile's queries, and their deltas.
    __shared__ float2 rows[STAGES][2][TILE / 2];
    const Memory at = memory<32>();
    const int tile = blockIdx.x, kv = blockIdx.y, b = blockIdx.z;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = tile * KEPT;
    // The warpgroup's first key, and the thread's first key less its first query.
    const int own = first + warp / 4 * 64, row = first + warp * 16 + lane / 4 - lane % 4 * 2;
    const u32 stages = at.tiles + 2 * KEPT * ROW;
    constexpr u32 BYTES = 2 * TILE * ROW;
    const int per_group = info.heads / info.groups, start = CAUSAL ? first / TILE : 0;
    const int all = (info.tq + TILE - 1) / TILE;
    Stage stage;
    if (warp >= 4 * GROUPS) {
        give();
        if (warp > 4 * GROUPS) return;
        if (lane == 0) {
            barrier_expect(at.kept, 2 * KEPT * ROW);
            load<KEPT>(at.tiles, &k_map, at.kept, first, kv, b);
            load<KEPT>(at.tiles + KEPT * ROW, &v_map, at.kept, first, kv, b);
        }
        for (int h = kv * per_group; h < (kv + 1) * per_group; h++)
            for (int t = start; t < all; t++) {
                const u64 from = ((u64)b * info.heads + h) * info.tq;
                barrier_wait(at.empty + 8 * stage.index, stage.parity ^ 1);
                float* l = &rows[stage.index][0][0].x;
                float* d = &rows[stage.index][1][0].x;
#pragma unroll
                for (int i = lane; i < TILE; i += 32) {
                    const bool inside = t * TILE + i < info.tq;
                    l[i] = inside ? lse[from + t * TILE + i] * LOG2E : 0.0f;
                    d[i] = inside ? delta[from + t * TILE + i] : 0.0f;
                }
                const u32 full = at.full + 8 * stage.index, to = stages + stage.index * BYTES;
                if (lane == 0) {
                    barrier_expect(full, BYTES);
                    load<TILE>(to, &q_map, full, t * TILE, h, b);
                    load<TILE>(to + BYTES / 2, &g_map, full, t * TILE, h, b);
                } else {
                    barrier_arrive(full);
                }
                stage.next();
            }
        return;
    }
    take();
    const float scale = info.scale * LOG2E;
    const u32 keys = at.tiles + warp / 4 * 64 * ACROSS, values = keys + KEPT * ROW;
    float ok[N8][4], ov[N8][4];
    clear(ok);
    clear(ov);
    barrier_wait(at.kept, 0);
    for (int h = kv * per_group; h < (kv + 1) * per_group; h++) {
        const float fade = DECAY ? decay[h] * LOG2E : 0.0f;
        for (int t = start; t < all; t++) {
            const u32 queries = stages + stage.index * BYTES, gradients = queries + BYTES / 2;
            barrier_wait(at.full + 8 * stage.index, stage.parity);
            if (!CAUSAL || (t + 1) * TILE > own) {
                const float2(&l)[TILE / 2] = rows[stage.index][0];
                const float2(&d)[TILE / 2] = rows[stage.index][1];
                float s[TILE / 8][4], dp[TILE / 8][4];
                scores(s, keys, queries);
                scores(dp, values, gradients);
                finish<TYPE == 2 ? 0 : 1>(s);
                const bool edge = (CAUSAL && t * TILE < own + 63) || (t + 1) * TILE > info.tq;
#pragma unroll
                for (int n = 0; n < TILE / 8; n++) {
                    const float2 of = l[n * 4 + lane % 4];
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        s[n][e] = s[n][e] * scale - (e % 2 ? of.y : of.x);
                        if (DECAY) s[n][e] -= fade * (t * TILE + n * 8 + e % 2 - row - e / 2 * 8);
                    }
                }
                if (edge)
#pragma unroll
                    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                        for (int e = 0; e < 4; e++) {
                            const int i = t * TILE + n * 8 + e % 2;
                            if ((CAUSAL && row + e / 2 * 8 > i) || i + lane % 4 * 2 >= info.tq)
                                s[n][e] = -1e30f;
                        }
                powers(s);
                weighted(ov, s, gradients);
                finish<TYPE == 2 ? 0 : 1>(dp);
#pragma unroll
                for (int n = 0; n < TILE / 8; n++) {
                    const float2 of = d[n * 4 + lane % 4];
#pragma unroll
                    for (int e = 0; e < 4; e++) dp[n][e] = s[n][e] * (dp[n][e] - (e % 2 ? of.y : of.x));
                }
                weighted(ok, dp, queries);
                finish<0>(ov);
                finish<0>(ok);
            }
            warp_arrive(at.empty + 8 * stage.index);
            stage.next();
        }
    }
    write(head(dk, info.dk, b, kv), info.dk.t, first + warp * 16, info.tk, info.hd, ok, info.scale,
          info.scale);
    write(head(dv, info.dv, b, kv), info.dv.t, first + warp * 16, info.tk, info.hd, ov, 1.0f, 1.0f);
}
#endif
