/* Products of rows with quantized matrices (matrices.h describes their layout).

   In: rows of floats, matrices. Out: rows of floats. Does not know: what a matrix is for.

   The inner product has a version for AVX2, one for AVX-512 VNNI, and one in plain C. */

#include "matrices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "vectors.h"

#define TILE 4
#define NEAR 16
/* Bytes of weights that are prefetched: with one or two rows memory is the limit. */
#define AHEAD 2048

void *cut(char **left, int64_t count, size_t size) {
    void *piece = *left;
    *left += ((size_t)count * size + 63) / 64 * 64;
    return piece;
}

void cut_quantized(char **left, int64_t rows, int64_t inputs, Quantized *to) {
    to->bytes = cut(left, rows * inputs, 1);
    to->shorts = cut(left, rows * inputs, 2);
    to->scales = cut(left, rows * scale_stride(inputs), sizeof(float));
    to->starts = cut(left, rows * scale_stride(inputs), sizeof(float));
}

void quantize(const float *row, const Matrix *matrix, const Quantized *to, int64_t at) {
    const int64_t stride = scale_stride(matrix->inputs);
    const float range = matrix->bits == 16 ? 4095 : 127;
    /* makes everything positive, where truncation rounds, halves up */
    const f8 round_up = (f8){0} + 4096.5f;
    memset(to->scales + at * stride, 0, sizeof(float) * (size_t)stride);
    memset(to->starts + at * stride, 0, sizeof(float) * (size_t)stride);
    for (int64_t group = 0; group < matrix->inputs / GROUP; group++) {
        const int64_t begin = group * GROUP, offset = at * matrix->inputs + begin;
        const int64_t left = matrix->size - begin;
        f8 part[GROUP / 8] = {{0}}, largest = {0}, check = {0};
        memcpy(part, row + begin, sizeof(float) * (size_t)(left < GROUP ? left : GROUP));
        for (int i = 0; i < GROUP / 8; i++) {
            const f8 magnitude = (f8)((i8)part[i] & 0x7fffffff);
            largest = select8(magnitude > largest, magnitude, largest);
            check += part[i] * 0.0f;
        }
        const float most = most8(largest), inverse = most > 0 ? range / most : 0;
        i8 sum = {0};
        for (int i = 0; i < GROUP / 8; i++) {
            const i8 numbers = __builtin_convertvector(part[i] * inverse + round_up, i8) - 4096;
            *(b8 *)(to->bytes + offset + 8 * i) = __builtin_convertvector(numbers, b8);
            *(s8 *)(to->shorts + offset + 8 * i) = __builtin_convertvector(numbers, s8);
            sum += numbers;
        }
        to->scales[at * stride + group] = most / range + sum8(check);
        to->starts[at * stride + group] = (float)-offset_of(matrix->bits) * sum8(__builtin_convertvector(sum, f8));
    }
}

/* A group's weights, unpacked; its integer product with a row's group; floats summed over groups. */
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

typedef struct {
    __m512i part[2];
} Unpacked;
typedef __m512 Lanes;

INLINE Unpacked unpack(const uint8_t *from, int bits) {
    Unpacked weights;
    weights.part[0] = weights.part[1] = _mm512_setzero_si512();
    if (bits == 4) {
        const __m256i both = _mm256_loadu_si256((const __m256i *)from), mask = _mm256_set1_epi8(15);
        const __m256i first = _mm256_and_si256(both, mask);
        const __m256i second = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
        weights.part[0] = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    } else {
        weights.part[0] = _mm512_loadu_si512(from);
        if (bits == 16) weights.part[1] = _mm512_loadu_si512(from + 64);
    }
    return weights;
}

INLINE Lanes product(Unpacked weights, const Quantized *x, int64_t offset, int bits) {
    __m512i sum = _mm512_setzero_si512();
    if (bits == 16) {
        sum = _mm512_dpwssd_epi32(sum, weights.part[0], _mm512_loadu_si512(x->shorts + offset));
        sum = _mm512_dpwssd_epi32(sum, weights.part[1], _mm512_loadu_si512(x->shorts + offset + 32));
    } else
        sum = _mm512_dpbusd_epi32(sum, weights.part[0], _mm512_loadu_si512(x->bytes + offset));
    return _mm512_cvtepi32_ps(sum);
}

INLINE Lanes zero(void) { return _mm512_setzero_ps(); }
INLINE Lanes add_scaled(Lanes sum, Lanes part, const float *scale) {
    return _mm512_fmadd_ps(part, _mm512_set1_ps(*scale), sum);
}
INLINE Lanes add_eight(Lanes sum, f8 more) { return _mm512_add_ps(sum, _mm512_zextps256_ps512((__m256)more)); }
INLINE float total(Lanes sum) {
    return sum8((f8)_mm512_castps512_ps256(sum) + (f8)_mm512_extractf32x8_ps(sum, 1));
}

#elif defined(__AVX2__) && defined(__FMA__)

typedef struct {
    __m256i part[4];
} Unpacked;
typedef __m256 Lanes;

/* Eight bits become shorts, since pairs of products of bytes do not fit one; four bits stay bytes. */
INLINE Unpacked unpack(const uint8_t *from, int bits) {
    Unpacked weights;
    if (bits == 8) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            weights.part[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from + i));
    } else if (bits == 16) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) weights.part[i] = _mm256_loadu_si256((const __m256i *)from + i);
    } else {
        const __m256i both = _mm256_loadu_si256((const __m256i *)from), mask = _mm256_set1_epi8(15);
        weights.part[0] = _mm256_and_si256(both, mask);
        weights.part[1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
        weights.part[2] = weights.part[3] = _mm256_setzero_si256();
    }
    return weights;
}

INLINE Lanes product(Unpacked weights, const Quantized *x, int64_t offset, int bits) {
    __m256i sum;
    if (bits != 4) {
        const __m256i *numbers = (const __m256i *)(x->shorts + offset);
        sum = _mm256_madd_epi16(weights.part[0], _mm256_loadu_si256(numbers));
#pragma GCC unroll 4
        for (int i = 1; i < 4; i++)
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights.part[i], _mm256_loadu_si256(numbers + i)));
    } else {
        const __m256i *numbers = (const __m256i *)(x->bytes + offset);
        const __m256i pairs =
            _mm256_add_epi16(_mm256_maddubs_epi16(weights.part[0], _mm256_loadu_si256(numbers)),
                             _mm256_maddubs_epi16(weights.part[1], _mm256_loadu_si256(numbers + 1)));
        sum = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
    return _mm256_cvtepi32_ps(sum);
}

INLINE Lanes zero(void) { return _mm256_setzero_ps(); }
INLINE Lanes add_scaled(Lanes sum, Lanes part, const float *scale) {
    return _mm256_fmadd_ps(part, _mm256_set1_ps(*scale), sum);
}
INLINE Lanes add_eight(Lanes sum, f8 more) { return (__m256)((f8)sum + more); }
INLINE float total(Lanes sum) { return sum8((f8)sum); }

#else

typedef struct {
    int16_t part[GROUP];
} Unpacked;
typedef double Lanes; /* in which a group's product times its scale is exact */

INLINE Unpacked unpack(const uint8_t *from, int bits) {
    Unpacked weights;
    if (bits == 16) memcpy(weights.part, from, sizeof weights.part);
    else
        for (int i = 0; i < GROUP; i++)
            weights.part[i] = bits == 8 ? from[i] : (from[i % (GROUP / 2)] >> (i < GROUP / 2 ? 0 : 4)) & 15;
    return weights;
}

INLINE Lanes product(Unpacked weights, const Quantized *x, int64_t offset, int bits) {
    (void)bits;
    int32_t sum = 0;
    for (int i = 0; i < GROUP; i++) sum += weights.part[i] * x->shorts[offset + i];
    return sum;
}

INLINE Lanes zero(void) { return 0; }
INLINE Lanes add_scaled(Lanes sum, Lanes part, const float *scale) { return sum + part * (double)*scale; }
INLINE Lanes add_eight(Lanes sum, f8 more) { return sum + sum8(more); }
INLINE float total(Lanes sum) { return (float)sum; }

#endif

/* The products of scales of an output and of a row, for BLOCK groups; returns what the offsets subtract. */
INLINE f8 combine(const uint16_t *scales, const float *row_scales, const float *starts, float *together) {
    f8 subtracted = {0};
#pragma GCC unroll 2
    for (int i = 0; i < BLOCK; i += 8) {
        const i8 wide = __builtin_convertvector(*(const h8 *)(scales + i), i8) << 16;
        const f8 both = (f8)wide * *(const f8 *)(row_scales + i);
        *(f8 *)(together + i) = both;
        subtracted += both * *(const f8 *)(starts + i);
    }
    return subtracted;
}

/* rows of x from at on, by outputs; rows times outputs are at most TILE: sums [outputs, rows]. The sum of
   one row by one output has the same order in every tile. */
INLINE void multiply_tile(const Matrix *matrix, int bits, const Quantized *x, int64_t at, int rows,
                          int64_t output, int outputs, float *sums) {
    const int64_t groups = matrix->inputs / GROUP, stride = scale_stride(matrix->inputs);
    const uint8_t *values = matrix->values + place_of(matrix, output, 0) * GROUP * bits / 8;
    Lanes lanes[TILE];
#pragma GCC unroll 4
    for (int i = 0; i < rows * outputs; i++) lanes[i] = zero();
    for (int64_t begin = 0; begin < groups; begin += BLOCK) {
        const int64_t end = groups - begin < BLOCK ? groups : begin + BLOCK;
        _Alignas(64) float together[TILE][BLOCK];
#pragma GCC unroll 4
        for (int i = 0; i < outputs; i++) {
            const uint16_t *scales = matrix->scales + (output + i) * stride + begin;
#pragma GCC unroll 4
            for (int row = 0; row < rows; row++) {
                const int64_t offset = (at + row) * stride + begin;
                lanes[i * rows + row] =
                    add_eight(lanes[i * rows + row],
                              combine(scales, x->scales + offset, x->starts + offset, together[i * rows + row]));
            }
        }
        for (int64_t group = begin; group < end; group++)
#pragma GCC unroll 4
            for (int i = 0; i < outputs; i++) {
                if (rows <= 2) __builtin_prefetch(values + (group * SIDE_BY_SIDE + i) * GROUP * bits / 8 + AHEAD);
                const Unpacked weights = unpack(values + (group * SIDE_BY_SIDE + i) * GROUP * bits / 8, bits);
#pragma GCC unroll 4
                for (int row = 0; row < rows; row++)
                    lanes[i * rows + row] =
                        add_scaled(lanes[i * rows + row],
                                   product(weights, x, ((at + row) * groups + group) * GROUP, bits),
                                   together[i * rows + row] + (group - begin));
            }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows * outputs; i++) sums[i] = total(lanes[i]);
}

/* A tile of rows by as many of the outputs left as fit; returns how many. */
INLINE int64_t multiply_some(const Matrix *matrix, int bits, const Quantized *x, int64_t at, int64_t rows,
                             int64_t output, int64_t left, float *sums) {
    if (rows == 1 && left >= 4 && output % 4 == 0)
        return multiply_tile(matrix, bits, x, at, 1, output, 4, sums), 4;
    if (rows == 2 && left >= 2 && output % 2 == 0)
        return multiply_tile(matrix, bits, x, at, 2, output, 2, sums), 2;
    switch (rows) {
        case 1: return multiply_tile(matrix, bits, x, at, 1, output, 1, sums), 1;
        case 2: return multiply_tile(matrix, bits, x, at, 2, output, 1, sums), 1;
        case 3: return multiply_tile(matrix, bits, x, at, 3, output, 1, sums), 1;
        default: return multiply_tile(matrix, bits, x, at, TILE, output, 1, sums), 1;
    }
}

INLINE int64_t multiply_with(const Matrix *matrix, const Quantized *x, int64_t at, int64_t rows, int64_t output,
                             int64_t left, float *sums) {
    if (matrix->bits == 16) return multiply_some(matrix, 16, x, at, rows, output, left, sums);
    if (matrix->bits == 8) return multiply_some(matrix, 8, x, at, rows, output, left, sums);
    return multiply_some(matrix, 4, x, at, rows, output, left, sums);
}

/* NEAR outputs at a time, whose weights stay in the cache while the tiles of rows pass. */
void multiply(const Matrix *matrix, const Quantized *x, int64_t rows, int64_t begin, int64_t end, float *to,
              int64_t stride, int add) {
    for (int64_t first = begin; first < end; first += NEAR) {
        const int64_t last = end - first < NEAR ? end : first + NEAR;
        for (int64_t at = 0; at < rows; at += TILE) {
            const int64_t count = rows - at < TILE ? rows - at : TILE;
            int64_t done = 0;
            for (int64_t output = first; output < last; output += done) {
                float sums[TILE];
                done = multiply_with(matrix, x, at, count, output, last - output, sums);
                for (int64_t column = output; column < output + done; column++) {
                    const float bias = matrix->bias ? matrix->bias[column] : 0;
                    float *offset = to + at * stride + column;
                    for (int64_t row = 0; row < count; row++, offset += stride)
                        *offset = (add ? *offset : 0) + (sums[(column - output) * count + row] + bias);
                }
            }
        }
    }
}

typedef struct {
    const Matrix *matrix;
    Quantized quantized;
    int64_t rows;
    float *to;
} Product;

static void multiply_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Product *product = context;
    const int64_t outputs = product->matrix->outputs;
    int64_t begin, end;
    share(outputs, chunk, chunks, &begin, &end);
    multiply(product->matrix, &product->quantized, product->rows, begin, end, product->to, outputs, 0);
}

/* rows [count, size] by matrix → to [count, outputs]; 0, or 1 without memory. */
int multiply_rows(const Matrix *matrix, const float *rows, int64_t count, float *to, int64_t threads) {
    Product product = {.matrix = matrix, .rows = count, .to = to};
    char *left = NULL;
    cut_quantized(&left, count, matrix->inputs, &product.quantized);
    char *space = left = aligned_alloc(64, (size_t)left + 64);
    if (!space) return 1;
    cut_quantized(&left, count, matrix->inputs, &product.quantized);
    for (int64_t row = 0; row < count; row++) quantize(rows + row * matrix->size, matrix, &product.quantized, row);
    in_parallel(multiply_chunk, &product, threads * CHUNKS_OF_THREAD, threads);
    free(space);
    return 0;
}

