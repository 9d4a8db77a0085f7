// What kernels use of Metal's language and standard library (Metal Shading Language Specification,
// chapters 2, 4 and 6), for clang's C++ for OpenCL: its address spaces are Metal's under other
// names, and a pointer of one is none of another. Declarations only: nothing here runs.

#pragma OPENCL EXTENSION cl_khr_fp16 : enable

#define device __global
#define threadgroup __local
#define thread __private

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef uchar uint8_t;
typedef ushort uint16_t;
typedef uint uint32_t;
typedef ulong uint64_t;
typedef ulong size_t;

struct uint3 {
    uint x, y, z;
};

namespace metal {

struct float2 {
    float x, y;
    float2(float x, float y);
};
float length(float2);

#define OF_FLOATS(name) \
    float name(float);  \
    half name(half);
OF_FLOATS(fabs)
OF_FLOATS(abs)
OF_FLOATS(exp)
OF_FLOATS(exp2)
OF_FLOATS(log)
OF_FLOATS(log2)
OF_FLOATS(sin)
OF_FLOATS(cos)
OF_FLOATS(tan)
OF_FLOATS(sinh)
OF_FLOATS(cosh)
OF_FLOATS(tanh)
OF_FLOATS(asin)
OF_FLOATS(acos)
OF_FLOATS(atan)
OF_FLOATS(asinh)
OF_FLOATS(acosh)
OF_FLOATS(atanh)
OF_FLOATS(sqrt)
OF_FLOATS(rsqrt)
OF_FLOATS(ceil)
OF_FLOATS(floor)
OF_FLOATS(trunc)
OF_FLOATS(rint)
float atan2(float, float);
half atan2(half, half);
float pow(float, float);
half pow(half, half);
float fma(float, float, float);
half fma(half, half, half);
bool isnan(float);
bool isnan(half);
bool isinf(float);
bool isinf(half);

#define OF_INTEGERS(name)  \
    char name(char);       \
    short name(short);     \
    int name(int);         \
    long name(long);       \
    uchar name(uchar);     \
    ushort name(ushort);   \
    uint name(uint);       \
    ulong name(ulong);
OF_INTEGERS(abs)
OF_INTEGERS(clz)
OF_INTEGERS(ctz)
OF_INTEGERS(popcount)
OF_INTEGERS(reverse_bits)

#define OF_TWO(name, type) type name(type, type);
#define OF_NUMBERS(name)  \
    OF_TWO(name, char)    \
    OF_TWO(name, short)   \
    OF_TWO(name, int)     \
    OF_TWO(name, long)    \
    OF_TWO(name, uchar)   \
    OF_TWO(name, ushort)  \
    OF_TWO(name, uint)    \
    OF_TWO(name, ulong)   \
    OF_TWO(name, float)   \
    OF_TWO(name, half)
OF_NUMBERS(max)
OF_NUMBERS(min)

enum class mem_flags { mem_none, mem_device, mem_threadgroup };
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);

// Of a SIMD group: of these types, and none of our structs.
#define OF_LANES(type)                  \
    type simd_sum(type);                \
    type simd_product(type);            \
    type simd_max(type);                \
    type simd_min(type);                \
    type simd_prefix_inclusive_sum(type); \
    type simd_prefix_exclusive_sum(type); \
    type simd_broadcast(type, ushort);  \
    type simd_shuffle(type, ushort);    \
    type simd_shuffle_xor(type, ushort); \
    type simd_shuffle_up(type, ushort); \
    type simd_shuffle_down(type, ushort);
OF_LANES(float)
OF_LANES(half)
OF_LANES(int)
OF_LANES(uint)
bool simd_all(bool);
bool simd_any(bool);

} // namespace metal
