/* Matrices of quantized weights, and rows that are multiplied by them.

   A matrix [outputs, inputs] is cut along its inputs into groups of GROUP. Weights of eight and four bits
   are unsigned, with an offset of half their range; all share a scale per output and group (bfloat16). Rows are quantized as they
   come, to signed bytes (to thirteen bits beside weights of sixteen) with a scale per row and group. A group's product is a sum of integers, and so
   exact; the groups of one output are added up in order. So no row's result depends on how many rows there
   are, on how they are tiled, or on the number of threads. */
#ifndef MATRICES_H
#define MATRICES_H

#include <stddef.h>
#include <stdint.h>

#define GROUP 64
/* Scales come in blocks of so many, the last one filled up with zeros. */
#define BLOCK 16
/* The same group of so many outputs lies together, so that a tile of them reads memory from front to back; values
   are padded to as many outputs. */
#define SIDE_BY_SIDE 4
/* So that whoever is late takes fewer. */
#define CHUNKS_OF_THREAD 4

/* values: two bytes per weight, one, or half of one; scales: [outputs, inputs / GROUP]; bias: [outputs] or NULL.
   inputs is a multiple of GROUP, size how many of them there are: the rest is zeros. */
typedef struct {
    const uint8_t *values;
    const uint16_t *scales;
    const float *bias;
    int64_t outputs, inputs, size, bits;
} Matrix;

/* Rows to be multiplied: the same numbers as bytes and as shorts, [rows, inputs]; scales and starts: [rows,
   inputs / GROUP], where a start takes off a group's sum what the offset of the weights put on it. */
typedef struct {
    int8_t *narrow;
    int16_t *wide;
    float *scales;
    float *starts;
} Quantized;

static inline int64_t scale_stride(int64_t inputs) { return (inputs / GROUP + BLOCK - 1) / BLOCK * BLOCK; }

/* What is added to a weight so that it has no sign; shorts keep theirs. */
static inline int32_t offset_of(int64_t bits) { return bits == 16 ? 0 : 1 << (bits - 1); }

/* The largest weight: of sixteen bits thirteen are used, so that products add up in 32. */
static inline int32_t most_of(int64_t bits) { return bits == 16 ? 4095 : (1 << (bits - 1)) - 1; }

/* Which group of all the values is this one of this output. */
static inline int64_t place_of(const Matrix *matrix, int64_t output, int64_t group) {
    const int64_t groups = matrix->inputs / GROUP, first = output / SIDE_BY_SIDE * SIDE_BY_SIDE;
    return first * groups + group * SIDE_BY_SIDE + output - first;
}

/* A piece of what lies at *left, whose beginning is a multiple of 64 bytes; with NULL, how much that takes. */
void *cut(char **left, int64_t count, size_t size);
void cut_quantized(char **left, int64_t rows, int64_t inputs, Quantized *to);

/* One row, padded with zeros to whole groups. What is not finite makes its group's scale NaN. */
void quantize(const float *row, const Matrix *matrix, const Quantized *to, int64_t at);

/* Rows by outputs begin to end: to [rows, stride] is overwritten, or added to. */
void multiply(const Matrix *matrix, const Quantized *x, int64_t rows, int64_t begin, int64_t end, float *to,
              int64_t stride, int add);

#endif
