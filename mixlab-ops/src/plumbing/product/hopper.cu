// C = A B on Hopper: the bulk copy engine feeds tiles to warpgroup matrix instructions.
//
// Block: one producer warpgroup (one thread of it works) and CONSUMERS warpgroups that hold 64 x BN
// of the result each. Blocks are persistent and take tiles in turn.
//
// In front of it: barriers.cu. Defined before both:
//   CONSUMERS  1 or 2; a tile has BM = 64 * CONSUMERS rows
//   BN         columns of a tile: 64, 128 or 256
//   BK         depth of a stage: 128 bytes of operands
//   STAGES     stages in flight
//   ELEMENT    bytes of an operand: 2 (bfloat16) or 4 (TF32)
//   TERMS      products of bfloat16s that make one: 1, or 6 for operands in three planes (f32)
//   A_ACROSS, B_ACROSS  1 if the operand is stored with M (of A) or N (of B) innermost, not K
//   OUTPUT_BYTES  4 for float, 2 for bfloat16
//   INSTRUCTION, REGISTERS  the assembly of one product and its accumulators, d[0 .. BN / 2)
//
// Tensor maps have axes [batch, rows, columns], boxes of 128 bytes by BM, BN or BK rows, and the
// 128-byte swizzle. Out of bounds reads are zero, out of bounds writes are left out.

#include <cuda_bf16.h>

#if OUTPUT_BYTES == 4
typedef float Output;
#else
typedef __nv_bfloat16 Output;
#endif

struct Info {
    u32 m, n;
    u32 row;         // elements between rows of C
    u32 batch;       // matrices
    u32 depth;       // stages of the whole K, each counted once for every term
    u32 splits;      // parts of K; part s of matrix b is matrix b * splits + s of C
    u64 matrix;      // elements between matrices of C
};

constexpr int BM = 64 * CONSUMERS;
constexpr int PER_BOX = 128 / ELEMENT; // elements across a box
constexpr int A_BYTES = BM * 128;
constexpr int B_BYTES = BN * 128;
constexpr int STAGE = A_BYTES + B_BYTES;
#if TERMS == 6
// Plane p of an operand holds its bits 8 p to 8 p + 7. The six products of planes that a sum of 32
// bits can tell from nothing, a digit each from the right, the smallest first.
constexpr u32 A_PLANES = 0x010120, B_PLANES = 0x001102;
// Matrix instructions cut sums off where they do not round them: after so many stages these go to
// sums of their own.
constexpr int RUN = 4;
#else
constexpr u32 A_PLANES = 0, B_PLANES = 0;
#endif
constexpr int GROUP = 8; // rows of tiles that are visited together, for the L2 cache

__device__ inline void copy(u32 to, const TensorMap* map, u32 barrier, int column, int row, int matrix) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(matrix)
        : "memory");
}

// Descriptor of an operand in shared memory with the 128-byte swizzle. K innermost: rows of 128
// bytes, 8 of them 1024 bytes apart from the next 8. K outermost: blocks of 128 bytes by BK rows,
// `next` bytes from one block to the next, 8 rows 1024 bytes apart from the next 8.
__device__ inline u64 descriptor(u32 address, u32 next) {
    return (u64)((address & 0x3ffff) >> 4) | ((u64)(next >> 4) << 16) | ((u64)(1024 >> 4) << 32) |
           (1ull << 62);
}

__device__ inline void multiply(float (&d)[BN / 2], u64 a, u64 b, int accumulate) {
    asm volatile(INSTRUCTION : REGISTERS : "l"(a), "l"(b), "r"(accumulate));
}

// Waits for all products into `d`.
__device__ inline void finish(float (&d)[BN / 2]) {
    asm volatile("wgmma.wait_group.sync.aligned 0;" : REGISTERS::"memory");
}

struct Tile {
    int row, column, matrix, split, first, last;
};

// The tile's place, its part of the depth, and whether there is one.
__device__ inline bool place(const Info& info, u32 index, Tile& tile) {
    u32 rows = (info.m + BM - 1) / BM, columns = (info.n + BN - 1) / BN;
    u32 per_matrix = rows * columns, all = per_matrix * info.splits * info.batch;
    if (index >= all) return false;
    u32 outer = index / per_matrix, inner = index % per_matrix;
    u32 band = inner / (GROUP * columns), within = inner % (GROUP * columns);
    u32 height = min(GROUP, rows - band * GROUP);
    tile.row = (band * GROUP + within % height) * BM;
    tile.column = (within / height) * BN;
    tile.split = outer % info.splits;
    tile.matrix = outer / info.splits;
    tile.first = (u64)info.depth * tile.split / info.splits;
    tile.last = (u64)info.depth * (tile.split + 1) / info.splits;
    return true;
}

#if OUTPUT_BYTES == 4
// A thread's part of 32 rows by BN columns: two neighbours in each of BN / 8 column groups.
__device__ inline void store(Output* row, u32 first, u32 n, const float (&d)[BN / 2], int half) {
    const u32 column = first + threadIdx.x % 4 * 2;
    const bool aligned = ((u64)row & 7) == 0;
#pragma unroll
    for (int i = 0; i < BN / 8; i++) {
        const u32 at = column + i * 8;
        const float x = d[4 * i + 2 * half], y = d[4 * i + 2 * half + 1];
        if (aligned && at + 1 < n) {
            *reinterpret_cast<float2*>(row + at) = make_float2(x, y);
        } else {
            if (at < n) row[at] = x;
            if (at + 1 < n) row[at + 1] = y;
        }
    }
}
#else
// The same in bfloat16. Four threads hold eight neighbours: they trade so that each writes 16 bytes.
__device__ inline void store(Output* row, u32 first, u32 n, const float (&d)[BN / 2], int half) {
    const int lane = threadIdx.x % 4;
    const bool aligned = ((u64)row & 15) == 0;
#pragma unroll
    for (int g = 0; g < BN / 32; g++) {
        u32 w[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int i = 16 * g + 4 * j + 2 * half;
            __nv_bfloat162 pair = __floats2bfloat162_rn(d[i], d[i + 1]);
            w[j] = *reinterpret_cast<u32*>(&pair);
        }
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
            const u32 got = __shfl_xor_sync(~0u, lane & 1 ? w[j] : w[j + 1], 1);
            if (lane & 1) w[j] = got; else w[j + 1] = got;
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const u32 got = __shfl_xor_sync(~0u, lane & 2 ? w[j] : w[j + 2], 2);
            if (lane & 2) w[j] = got; else w[j + 2] = got;
        }
        const u32 at = first + (4 * g + lane) * 8;
        if (row == nullptr) continue;
        if (aligned && at + 8 <= n) {
            *reinterpret_cast<uint4*>(row + at) = make_uint4(w[0], w[1], w[2], w[3]);
        } else {
            const Output* x = reinterpret_cast<const Output*>(w);
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (at + j < n) row[at + j] = x[j];
        }
    }
}
#endif

extern "C" __global__ __launch_bounds__(128 * (CONSUMERS + 1), 1) void mixlab_product(
    const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map, void*, void*,
    Output* c, const __grid_constant__ Info info) {
    extern __shared__ char raw[];
    __shared__ alignas(8) u64 barriers[2 * STAGES];
    const u32 tiles = (shared_address(raw) + 1023) & ~1023u;
    const u32 full = shared_address(barriers), empty = full + 8 * STAGES;
    const int group = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(full + 8 * s, 1);
            barrier_init(empty + 8 * s, CONSUMERS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    u32 stage = 0, parity = 0;
    Tile tile;

    if (group == 0) {
#if CONSUMERS == 2
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
#endif
        if (threadIdx.x != 0) return;
        for (u32 index = blockIdx.x; place(info, index, tile); index += gridDim.x) {
            for (int step = tile.first; step < tile.last; step++) {
                const int stages = info.depth / TERMS, k = step % stages, digit = step / stages * 4;
                const int of_a = tile.matrix + (A_PLANES >> digit & 15) * info.batch;
                const int of_b = tile.matrix + (B_PLANES >> digit & 15) * info.batch;
                barrier_wait(empty + 8 * stage, parity ^ 1);
                const u32 a = tiles + stage * STAGE, b = a + A_BYTES, ready = full + 8 * stage;
                barrier_expect(ready, STAGE);
#if A_ACROSS
                for (int i = 0; i < BM / PER_BOX; i++)
                    copy(a + i * BK * 128, &a_map, ready, tile.row + i * PER_BOX, k * BK, of_a);
#else
                copy(a, &a_map, ready, k * BK, tile.row, of_a);
#endif
#if B_ACROSS
                for (int i = 0; i < BN / PER_BOX; i++)
                    copy(b + i * BK * 128, &b_map, ready, tile.column + i * PER_BOX, k * BK, of_b);
#else
                copy(b, &b_map, ready, k * BK, tile.column, of_b);
#endif
                if (++stage == STAGES) {
                    stage = 0;
                    parity ^= 1;
                }
            }
        }
    } else {
#if CONSUMERS == 2
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
#endif
        const int mine = group - 1, thread = threadIdx.x % 128;
        for (u32 index = blockIdx.x; place(info, index, tile); index += gridDim.x) {
            float d[BN / 2];
            u32 previous = 0;
            bool held = false; // the previous stage, by the products that are under way
            for (int i = 0; i < BN / 2; i++) d[i] = 0.0f;
#if TERMS == 6
            float sum[BN / 2];
            for (int i = 0; i < BN / 2; i++) sum[i] = 0.0f;
#endif
            for (int step = tile.first; step < tile.last; step++) {
                barrier_wait(full + 8 * stage, parity);
                const u32 a = tiles + stage * STAGE + mine * 8192, b = tiles + stage * STAGE + A_BYTES;
                asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    // 32 bytes along K, or 16 rows of it.
                    const u64 da = descriptor(a + (A_ACROSS ? i * 2048 : i * 32), BK * 128);
                    const u64 db = descriptor(b + (B_ACROSS ? i * 2048 : i * 32), BK * 128);
                    multiply(d, da, db, 1);
                }
                asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                if (held) {
                    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                    if (thread == 0) barrier_arrive(empty + 8 * previous);
                }
                previous = stage;
                held = true;
                if (++stage == STAGES) {
                    stage = 0;
                    parity ^= 1;
                }
#if TERMS == 6
                if (step % RUN == RUN - 1) {
                    finish(d);
                    if (thread == 0) barrier_arrive(empty + 8 * previous);
                    held = false;
#pragma unroll
                    for (int i = 0; i < BN / 2; i++) {
                        sum[i] += d[i];
                        d[i] = 0.0f;
                    }
                }
#endif
            }
            finish(d);
            if (thread == 0 && held) barrier_arrive(empty + 8 * previous);
#if TERMS == 6
#pragma unroll
            for (int i = 0; i < BN / 2; i++) d[i] += sum[i];
#endif
            const u32 row = tile.row + mine * 64 + (thread / 32) * 16 + (thread % 32) / 4;
            Output* out = c + ((u64)tile.matrix * info.splits + tile.split) * info.matrix;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const u32 at = row + 8 * half;
#if OUTPUT_BYTES == 4
                if (at >= info.m) continue;
                store(out + (u64)at * info.row, tile.column, info.n, d, half);
#else
                // All threads take part in the trade; a row past the end is not written.
                store(at < info.m ? out + (u64)at * info.row : nullptr, tile.column, info.n, d, half);
#endif
            }
        }
    }
}
