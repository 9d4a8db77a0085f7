// What CubeCL's CUDA texts use of CUDA, on the processor: units of a cube take turns, and each runs
// until the next barrier. A fragment of a matrix is held in full by every unit of its plane.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(units)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct uint3 { unsigned x, y, z; };
typedef uint3 dim3;
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
static uint3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;
extern "C" {
alignas(128) unsigned char dynamic_shared_mem[256 << 10];
}

// Numbers of 16 bits: kept as such, computed with as floats.
template <class Bits> struct Half {
    unsigned short bits;
    Half() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    Half(T value) : bits(Bits::from(float(value))) {}
    template <class Other> explicit Half(Half<Other> other) : Half(float(other)) {}
    operator float() const { return Bits::to(bits); }
    Half &operator+=(float other) { return *this = Half(float(*this) + other); }
    Half &operator-=(float other) { return *this = Half(float(*this) - other); }
    Half &operator*=(float other) { return *this = Half(float(*this) * other); }
};
struct Float16 {
    static unsigned short from(float value) {
        __fp16 half = value;
        unsigned short bits;
        memcpy(&bits, &half, 2);
        return bits;
    }
    static float to(unsigned short bits) {
        __fp16 half;
        memcpy(&half, &bits, 2);
        return half;
    }
};
struct Bfloat16 {
    static unsigned short from(float value) {
        unsigned bits;
        memcpy(&bits, &value, 4);
        if (value != value) return 0x7fff;
        return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
    static float to(unsigned short bits) {
        unsigned wide = unsigned(bits) << 16;
        float value;
        memcpy(&value, &wide, 4);
        return value;
    }
};
typedef Half<Float16> __half;
typedef Half<Bfloat16> __nv_bfloat16;
typedef __half half;

// Two of them side by side.
template <class T> struct alignas(4) Pair {
    T x, y;
};
typedef Pair<__half> __half2;
typedef Pair<__nv_bfloat16> __nv_bfloat162;
template <class T> Pair<T> operator+(Pair<T> a, Pair<T> b) { return {a.x + b.x, a.y + b.y}; }
template <class T> Pair<T> operator-(Pair<T> a, Pair<T> b) { return {a.x - b.x, a.y - b.y}; }
template <class T> Pair<T> operator*(Pair<T> a, Pair<T> b) { return {a.x * b.x, a.y * b.y}; }
template <class T> Pair<T> operator/(Pair<T> a, Pair<T> b) { return {a.x / b.x, a.y / b.y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }

template <class T, class U> std::common_type_t<T, U> max(T a, U b) { return a < b ? b : a; }
template <class T, class U> std::common_type_t<T, U> min(T a, U b) { return b < a ? b : a; }
inline __half __float2half(float x) { return x; }
inline float __half2float(__half x) { return x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }

namespace nvcuda {
namespace wmma {
struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    static constexpr int rows = std::is_same_v<Use, matrix_b> ? K : M;
    static constexpr int columns = std::is_same_v<Use, matrix_a> ? K : N;
    float x[rows][columns];
};

template <class F, class V> void fill_fragment(F &to, V value) {
    for (auto &row : to.x)
        for (auto &x : row) x = float(value);
}

// As on the card, 32 bytes of a row at addresses of 16 bytes.
template <class T> void aligned(const T *at, unsigned step) {
    if (size_t(at) % 16 || step * sizeof(T) % 16) {
        fprintf(stderr, "a fragment at %p, rows %u elements apart\n", (const void *)at, step);
        abort();
    }
}

template <class Use, int M, int N, int K, class T, class Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &to, const T *from, unsigned step) {
    aligned(from, step);
    constexpr bool across = std::is_same_v<Layout, row_major>;
    for (int i = 0; i < to.rows; i++)
        for (int j = 0; j < to.columns; j++)
            to.x[i][j] = float(across ? from[i * step + j] : from[j * step + i]);
}

template <int M, int N, int K, class T>
void load_matrix_sync(fragment<accumulator, M, N, K, T> &to, const T *from, unsigned step,
                      layout_t layout) {
    aligned(from, step);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            to.x[i][j] = from[layout == mem_row_major ? i * step + j : j * step + i];
}

// From pairs of numbers, as Vulkan's kernels read them: CUDA has no such load.
template <class Use, int M, int N, int K, class T, class Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &to, const unsigned *from, unsigned step) {
    load_matrix_sync(to, reinterpret_cast<const T *>(from), 2 * step);
}

template <int M, int N, int K, class T>
void store_matrix_sync(T *to, const fragment<accumulator, M, N, K, T> &from, unsigned step, layout_t layout) {
    aligned(to, step);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            to[layout == mem_row_major ? i * step + j : j * step + i] = T(from.x[i][j]);
}

template <int M, int N, int K, class T, class A, class B>
void mma_sync(fragment<accumulator, M, N, K, float> &to, const fragment<matrix_a, M, N, K, T, A> &a,
              const fragment<matrix_b, M, N, K, T, B> &b,
              const fragment<accumulator, M, N, K, float> &c) {
    float sums[M][N];
    memcpy(sums, c.x, sizeof sums);
    for (int i = 0; i < M; i++)
        for (int k = 0; k < K; k++)
            for (int j = 0; j < N; j++) sums[i][j] += a.x[i][k] * b.x[k][j];
    memcpy(to.x, sums, sizeof sums);
}
} // namespace wmma
} // namespace nvcuda

struct Unit {
    ucontext_t at;
    uint3 place;
    bool done;
};
static ucontext_t turns;
static Unit *now;
static std::vector<Unit> *units;
static void (*job)(void **);
static void **arguments;

inline void __syncthreads() { swapcontext(&now->at, &turns); }
inline void __syncwarp() { __syncthreads(); }

static void unit() {
    job(arguments);
    now->done = true;
    swapcontext(&now->at, &turns);
}

// Runs a cube; whether all units met at each barrier.
static bool run_cube(char *stacks, size_t stack) {
    // As undefined as on the card: NaNs.
    memset(dynamic_shared_mem, 0xff, sizeof dynamic_shared_mem);
    size_t count = units->size();
    for (size_t i = 0; i < count; i++) {
        Unit &u = (*units)[i];
        getcontext(&u.at);
        u.at.uc_stack.ss_sp = &stacks[i * stack];
        u.at.uc_stack.ss_size = stack;
        u.at.uc_link = nullptr;
        u.place = {unsigned(i) % blockDim.x, unsigned(i) / blockDim.x % blockDim.y,
                   unsigned(i) / blockDim.x / blockDim.y};
        u.done = false;
        makecontext(&u.at, unit, 0);
    }
    for (size_t turn = 0;; turn++) {
        size_t done = 0;
        // Forwards and backwards: what lacks a barrier differs.
        for (size_t i = 0; i < count; i++) {
            now = &(*units)[turn % 2 ? count - 1 - i : i];
            threadIdx = now->place;
            swapcontext(&turns, &now->at);
            done += now->done;
        }
        if (done) return done == count;
    }
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void **a, std::index_sequence<I...>) {
    kernel((A)a[I]...);
}

template <class... A> bool run(void (*kernel)(A...), const unsigned *sizes, void **a, void (*start)(void **)) {
    const size_t stack = 256 << 10;
    gridDim = {sizes[0], sizes[1], sizes[2]};
    blockDim = {sizes[3], sizes[4], sizes[5]};
    std::vector<Unit> all(blockDim.x * blockDim.y * blockDim.z);
    std::unique_ptr<char[]> stacks(new char[all.size() * stack]);
    units = &all;
    job = start;
    arguments = a;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
                if (!run_cube(stacks.get(), stack)) return false;
    return true;
}

template <class... A> void call(void (*kernel)(A...), void **a) {
    call(kernel, a, std::index_sequence_for<A...>());
}
