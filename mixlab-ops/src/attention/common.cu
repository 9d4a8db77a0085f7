// What both texts of attention say alike, in front of them. HD and TYPE are as they say.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned int u32;
typedef unsigned long long u64;

#if TYPE >= 2
typedef float E;
__device__ inline float wide(E x) { return x; }
#elif TYPE == 1
typedef __half E;
#define KIND "f16"
__device__ inline u32 pack(float x, float y) {
    __half2 p = __floats2half2_rn(x, y);
    return *reinterpret_cast<u32*>(&p);
}
__device__ inline float wide(E x) { return __half2float(x); }
#else
typedef __nv_bfloat16 E;
#define KIND "bf16"
__device__ inline u32 pack(float x, float y) {
    __nv_bfloat162 p = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<u32*>(&p);
}
__device__ inline float wide(E x) { return __bfloat162float(x); }
#endif

// Elements between batches, heads and positions; neighbours in a head are neighbours in memory.
struct Strides {
    u32 b, h, t;
};

struct Info {
    u32 batch, heads, groups, tq, tk, hd;
    float scale;
    u32 unused;
    Strides q, k, v, y, g, dq, dk, dv;
};

constexpr int N8 = HD / 8;
constexpr float LOG2E = 1.4426950408889634f;

template <int N>
__device__ inline void clear(float (&c)[N][4]) {
#pragma unroll
    for (int i = 0; i < N; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0.0f;
}

// 2^x; what would be denormal is zero.
__device__ inline float power(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 16 rows of accumulators, times `factor` by half, to a head in memory.
__device__ inline void write(E* to, u32 stride, int first, int limit, int hd, const float (&c)[N8][4],
                             float upper, float lower) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = first + lane / 4 + 8 * half;
        if (row >= limit) continue;
        const float factor = half ? lower : upper;
#pragma unroll
        for (int n = 0; n < N8; n++) {
            const int column = n * 8 + lane % 4 * 2;
            if (column >= hd) continue;
            const float x = c[n][2 * half] * factor, y = c[n][2 * half + 1] * factor;
            E* at = to + (u64)row * stride + column;
#if TYPE >= 2
            *reinterpret_cast<float2*>(at) = make_float2(x, y);
#else
            *reinterpret_cast<u32*>(at) = pack(x, y);
#endif
        }
    }
}

__device__ inline const E* head(const E* x, Strides s, int b, int h) {
    return x + (u64)b * s.b + (u64)h * s.h;
}
__device__ inline E* head(E* x, Strides s, int b, int h) { return x + (u64)b * s.b + (u64)h * s.h; }

