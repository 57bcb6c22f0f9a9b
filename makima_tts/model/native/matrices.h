/* Matrices of quantized weights, and rows that are multiplied by them.

   A matrix [outputs, inputs] is cut along its inputs into groups of GROUP. Weights of eight and four bits are
   unsigned, with an offset of half their range; each group of an output has a scale (bfloat16). Rows are
   quantized when they are multiplied, to signed bytes (to thirteen bits for weights of sixteen) with a scale per
   row and group. A group's product is a sum of integers, and so exact; the groups of one output are summed in
   order. So no row's result depends on the number of rows, on how they are tiled, or on the number of threads. */
#ifndef MATRICES_H
#define MATRICES_H

#include <stddef.h>
#include <stdint.h>

#define GROUP 64
/* Scales come in blocks of this many, the last one padded with zeros. */
#define BLOCK 16
/* The same group of this many outputs is contiguous, so that a tile of them reads memory in order; values are
   padded to as many outputs. */
#define SIDE_BY_SIDE 4
/* So that a thread that is late takes fewer chunks. */
#define CHUNKS_OF_THREAD 4

/* values: two bytes per weight, one, or half of one; scales: [outputs, inputs / GROUP]; bias: [outputs] or NULL.
   inputs is a multiple of GROUP, size how many of them are used: the rest is zeros. */
typedef struct {
    const uint8_t *values;
    const uint16_t *scales;
    const float *bias;
    int64_t outputs, inputs, size, bits;
} Matrix;

/* Rows to be multiplied: the same numbers as bytes and as shorts, [rows, inputs]; scales and starts: [rows,
   inputs / GROUP], where a start subtracts from a group's sum what the offset of the weights added. */
typedef struct {
    int8_t *bytes;
    int16_t *shorts;
    float *scales;
    float *starts;
} Quantized;

static inline int64_t scale_stride(int64_t inputs) { return (inputs / GROUP + BLOCK - 1) / BLOCK * BLOCK; }

/* What is added to a weight to make it unsigned; shorts stay signed. */
static inline int32_t offset_of(int64_t bits) { return bits == 16 ? 0 : 1 << (bits - 1); }

/* The largest weight: of sixteen bits thirteen are used, so that products add up in 32. */
static inline int32_t most_of(int64_t bits) { return bits == 16 ? 4095 : (1 << (bits - 1)) - 1; }

/* The index of this group of this output among all values. */
static inline int64_t place_of(const Matrix *matrix, int64_t output, int64_t group) {
    const int64_t groups = matrix->inputs / GROUP, first = output / SIDE_BY_SIDE * SIDE_BY_SIDE;
    return first * groups + group * SIDE_BY_SIDE + output - first;
}

/* Takes count elements from *left on, aligned to 64 bytes, and advances it; from NULL it counts bytes. */
void *cut(char **left, int64_t count, size_t size);
void cut_quantized(char **left, int64_t rows, int64_t inputs, Quantized *to);

/* One row, padded with zeros to whole groups. A value that is not finite makes its group's scale NaN. */
void quantize(const float *row, const Matrix *matrix, const Quantized *to, int64_t at);

/* Rows by outputs begin to end: to [rows, stride] is overwritten, or added to. */
void multiply(const Matrix *matrix, const Quantized *x, int64_t rows, int64_t begin, int64_t end, float *to,
              int64_t stride, int add);

#endif
