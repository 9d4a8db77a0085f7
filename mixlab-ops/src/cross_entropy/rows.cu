// Softmax cross-entropy and its gradient: a block takes one row of logits after the other. It reads
// a row once, keeps it in shared memory, and writes the gradient, over the logits if the two are the
// same, while the next row comes in. A thread needs nothing of a row but what it fetched itself.
//
// Defined before this text:
//   TYPE     of the logits: 0 for bfloat16, 1 for float16, 2 for float
//   THREADS  of a block, a multiple of 32
//   WORDS    32-bit words of a target

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned int u32;
typedef unsigned long long u64;

#if TYPE == 2
typedef float E;
__device__ inline E narrow(float x) { return x; }
__device__ inline float wide(E x) { return x; }
#elif TYPE == 1
typedef __half E;
__device__ inline u32 pack(float x, float y) {
    __half2 p = __floats2half2_rn(x, y);
    return *reinterpret_cast<u32*>(&p);
}
__device__ inline E narrow(float x) { return __float2half_rn(x); }
__device__ inline float wide(E x) { return __half2float(x); }
#else
typedef __nv_bfloat16 E;
__device__ inline u32 pack(float x, float y) {
    __nv_bfloat162 p = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<u32*>(&p);
}
__device__ inline E narrow(float x) { return __float2bfloat16_rn(x); }
__device__ inline float wide(E x) { return __bfloat162float(x); }
#endif

struct Info {
    u32 rows, columns;
    float g; // the gradient of every loss
    u32 unused;
};

constexpr int PER = 16 / sizeof(E);
constexpr int LOADS = 4;
constexpr float LOG2E = 1.4426950408889634f;
constexpr float LN2 = 0.6931471805599453f;
// So low that nothing is left of it beside a logit, and its multiples are still numbers.
constexpr float LOWEST = -1e38f;

// As many elements as one load moves.
union Vector {
    uint4 bits;
    E e[PER];
    u32 words[4];
};

__device__ inline void fetch(uint4* to, const uint4* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<u32>(__cvta_generic_to_shared(to))),
                 "l"(from)
                 : "memory");
}

__device__ inline float exp2_of(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The sum or the maximum over the block, in each of its threads, in a fixed order.
template <bool SUM>
__device__ inline float fold(float x) {
    __shared__ float parts[THREADS / 32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        const float y = __shfl_xor_sync(~0u, x, step);
        x = SUM ? x + y : fmaxf(x, y);
    }
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = parts[0];
    for (int i = 1; i < THREADS / 32; i++) x = SUM ? x + parts[i] : fmaxf(x, parts[i]);
    return x;
}

// The running maximum `best`, in powers of two, and the sum of what is above it, over N vectors more.
template <int N>
__device__ inline void add(const Vector* v, float& best, float& sum) {
    float most = LOWEST;
#pragma unroll
    for (int k = 0; k < N; k++)
#pragma unroll
        for (int i = 0; i < PER; i++) most = fmaxf(most, wide(v[k].e[i]));
    const float next = fmaxf(best, most * LOG2E);
    sum *= exp2_of(best - next);
    best = next;
#pragma unroll
    for (int k = 0; k < N; k++)
#pragma unroll
        for (int i = 0; i < PER; i++) sum += exp2_of(fmaf(wide(v[k].e[i]), LOG2E, -next));
}

// What takes the place of a vector of logits; zero if `g` is.
__device__ inline Vector slope(Vector v, float total, float g) {
    float d[PER];
#pragma unroll
    for (int i = 0; i < PER; i++)
        d[i] = g == 0.0f ? 0.0f : g * exp2_of(fmaf(wide(v.e[i]), LOG2E, -total));
#if TYPE == 2
#pragma unroll
    for (int i = 0; i < PER; i++) v.e[i] = d[i];
#else
#pragma unroll
    for (int i = 0; i < PER; i += 2) v.words[i / 2] = pack(d[i], d[i + 1]);
#endif
    return v;
}

extern "C" __global__ __launch_bounds__(THREADS) void cross_entropy_rows(
    const E* z, const int* targets, float* nll, E* dz, const __grid_constant__ Info info) {
    extern __shared__ uint4 held[];
    const int vectors = info.columns / PER, first = threadIdx.x;
    const auto* from = reinterpret_cast<const uint4*>(z) + (u64)blockIdx.x * vectors;
    for (int at = first; at < vectors; at += THREADS) fetch(held + at, from + at);
    for (u32 row = blockIdx.x; row < info.rows; row += gridDim.x) {
        const u32 target = targets[(u64)row * WORDS];
        // A negative target, or one of 64 bits that needs them, is of no class.
        const bool known =
            target < info.columns && (WORDS == 1 || targets[(u64)row * WORDS + WORDS - 1] == 0);
        const float g = known ? info.g : 0.0f;
        asm volatile("cp.async.wait_all;" ::: "memory");
        float best = LOWEST, sum = 0.0f;
        int at = first;
        for (; at + (LOADS - 1) * THREADS < vectors; at += LOADS * THREADS) {
            Vector v[LOADS];
#pragma unroll
            for (int k = 0; k < LOADS; k++) v[k].bits = held[at + k * THREADS];
            add<LOADS>(v, best, sum);
        }
        for (; at < vectors; at += THREADS) {
            Vector v;
            v.bits = held[at];
            add<1>(&v, best, sum);
        }
        const float all = fold<false>(best);
        const float total = all + log2f(fold<true>(sum * exp2_of(best - all)));
        const bool mine = (known ? target / PER % THREADS : 0) == first;
        float hit = 0.0f;
        if (mine) {
            if (known) hit = wide(reinterpret_cast<const E*>(held)[target]);
            nll[row] = known ? LN2 * fmaf(-hit, LOG2E, total) : 0.0f;
        }

        const u32 next = row + gridDim.x;
        auto* to = reinterpret_cast<uint4*>(dz) + (u64)row * vectors;
        from = reinterpret_cast<const uint4*>(z) + (u64)next * vectors;
#pragma unroll 4
        for (at = first; at < vectors; at += THREADS) {
            Vector v;
            v.bits = held[at];
            to[at] = slope(v, total, g).bits;
            if (next < info.rows) fetch(held + at, from + at);
        }
        if (mine && known)
            dz[(u64)row * info.columns + target] =
                narrow(g * (exp2_of(fmaf(hit, LOG2E, -total)) - 1.0f));
    }
}
