/* Eight numbers at a time, as GNU vectors, which the compiler maps to the machine's own. */
#ifndef VECTORS_H
#define VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
/* One body for all callers: inlined in two places, it could be rounded in two ways. */
#define ALONE static __attribute__((noinline))

typedef float f8 __attribute__((vector_size(32), aligned(4)));
typedef int8_t b8 __attribute__((vector_size(8), aligned(1)));
typedef int16_t s8 __attribute__((vector_size(16), aligned(2)));
typedef uint16_t h8 __attribute__((vector_size(16), aligned(2)));
typedef int32_t i8 __attribute__((vector_size(32), aligned(4)));

/* Hides the origin of a product, so that it is rounded before something is added to it: compilers fuse the two in
   one place and not in another. */
#ifdef __AVX2__
#define ROUNDED(product) __asm__("" : "+x"(product))
#else
#define ROUNDED(product) __asm__("" : "+m"(product))
#endif

INLINE float sum8(f8 v) {
    v += __builtin_shuffle(v, (i8){4, 5, 6, 7, 0, 1, 2, 3});
    v += __builtin_shuffle(v, (i8){2, 3, 0, 1, 6, 7, 4, 5});
    v += __builtin_shuffle(v, (i8){1, 0, 3, 2, 5, 4, 7, 6});
    return v[0];
}

/* The sum of each of eight vectors; of one, whatever the others are, in the same order. */
INLINE f8 sums_of8(const f8 v[8]) {
#ifdef __AVX2__
    const __m256 a = _mm256_hadd_ps((__m256)v[0], (__m256)v[1]), b = _mm256_hadd_ps((__m256)v[2], (__m256)v[3]);
    const __m256 c = _mm256_hadd_ps((__m256)v[4], (__m256)v[5]), d = _mm256_hadd_ps((__m256)v[6], (__m256)v[7]);
    const __m256 first = _mm256_hadd_ps(a, b), last = _mm256_hadd_ps(c, d);
    return (f8)_mm256_permute2f128_ps(first, last, 0x20) + (f8)_mm256_permute2f128_ps(first, last, 0x31);
#else
    f8 sums;
    for (int i = 0; i < 8; i++)
        sums[i] = ((v[i][0] + v[i][1]) + (v[i][2] + v[i][3])) + ((v[i][4] + v[i][5]) + (v[i][6] + v[i][7]));
    return sums;
#endif
}

INLINE f8 select8(i8 mask, f8 yes, f8 no) { return (f8)((mask & (i8)yes) | (~mask & (i8)no)); }

INLINE float most8(f8 v) {
    float most = v[0];
    for (int i = 1; i < 8; i++) most = v[i] > most ? v[i] : most;
    return most;
}

/* Cephes' expf: 2^n times a polynomial; within 2e-7 of it, and finite for whatever is finite. */
INLINE f8 exp8(f8 x) {
    const f8 zero = {0};
    const f8 low = zero - 87.0f, high = zero + 88.0f;
    x = select8(x < low, low, x);
    x = select8(x > high, high, x);
    const f8 scaled = x * 1.44269504f;
    const i8 n = __builtin_convertvector(scaled + select8(scaled < zero, zero - 0.5f, zero + 0.5f), i8);
    const f8 whole = __builtin_convertvector(n, f8);
    const f8 r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    f8 y = 1.9875691500e-4f * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return y * (f8)((n + 127) << 23);
}

INLINE float from_bf16(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To the nearest, ties to even. */
INLINE uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* The share of count that falls to a chunk, from *begin to *end. */
INLINE void share(int64_t count, int64_t chunk, int64_t chunks, int64_t *begin, int64_t *end) {
    *begin = count * chunk / chunks;
    *end = count * (chunk + 1) / chunks;
}

#endif
