/* Packs weights into quantized matrices, in the format of matrices.h.

   In: floats. Out: values and scales. Does not know: what a matrix is for. */

#include <math.h>
#include <string.h>

#include "matrices.h"
#include "parallel.h"
#include "vectors.h"

/* Squared error of a group that is rounded to multiples of scale. */
static float squared_error(const float *group, float scale, float least, float most) {
    const float inverse = 1 / scale;
    float sum = 0;
    for (int i = 0; i < GROUP; i++) {
        float number = rintf(group[i] * inverse);
        number = number < least ? least : number > most ? most : number;
        const float difference = group[i] - number * scale;
        sum += difference * difference;
    }
    return sum;
}

/* The smallest scale that represents extreme with the largest number. */
static uint16_t smallest_scale(float extreme, float most) {
    const uint16_t scale = to_bf16(extreme / most);
    return from_bf16(scale) * most < extreme ? scale + 1 : scale;
}

/* Of scales around the smallest one that represents the extreme, the one with the least error. */
static uint16_t best_scale(const float *group, int64_t bits) {
    const float most = (float)most_of(bits), least = bits == 4 ? -most - 1 : -most;
    float extreme = 0;
    for (int i = 0; i < GROUP; i++)
        if (!(fabsf(group[i]) <= fabsf(extreme))) extreme = group[i];
    if (bits != 4 || extreme == 0 || !isfinite(extreme)) return smallest_scale(fabsf(extreme), most);
    uint16_t best = 0;
    float smallest = INFINITY;
    for (int step = -9; step <= 6; step++) {
        const uint16_t scale = to_bf16(extreme / least * (1 + 0.03f * (float)step));
        const float error = from_bf16(scale) == 0 ? INFINITY : squared_error(group, from_bf16(scale), least, most);
        if (error < smallest) {
            smallest = error;
            best = scale;
        }
    }
    return best;
}

static void pack_group(const float *group, int64_t bits, uint8_t *values, uint16_t *scale) {
    const int32_t offset = offset_of(bits), most = most_of(bits), least = bits == 4 ? -offset : -most;
    *scale = best_scale(group, bits);
    const float step = from_bf16(*scale), inverse = step == 0 ? 0 : 1 / step;
    int16_t numbers[GROUP];
    for (int i = 0; i < GROUP; i++) {
        const float exact = rintf(group[i] * inverse);
        const int32_t number = exact < least ? least : exact > most ? most : (int32_t)exact;
        numbers[i] = (int16_t)(number + offset);
    }
    if (bits == 16) memcpy(values, numbers, sizeof numbers);
    for (int i = 0; i < GROUP && bits == 8; i++) values[i] = (uint8_t)numbers[i];
    for (int i = 0; i < GROUP / 2 && bits == 4; i++)
        values[i] = (uint8_t)(numbers[i] | numbers[i + GROUP / 2] << 4);
}

typedef struct {
    const float *weights;
    Matrix matrix; /* the result */
    uint8_t *values;
    uint16_t *scales;
} Packing;

static void pack_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Packing *packing = context;
    const Matrix *matrix = &packing->matrix;
    int64_t first, last;
    share(matrix->outputs, chunk, chunks, &first, &last);
    for (int64_t output = first; output < last; output++)
        for (int64_t index = 0; index < matrix->inputs / GROUP; index++) {
            float group[GROUP] = {0};
            const int64_t begin = index * GROUP, left = matrix->size - begin;
            memcpy(group, packing->weights + output * matrix->size + begin,
                   sizeof(float) * (size_t)(left < GROUP ? left : GROUP));
            pack_group(group, matrix->bits,
                       packing->values + place_of(matrix, output, index) * GROUP * matrix->bits / 8,
                       packing->scales + output * scale_stride(matrix->inputs) + index);
        }
}

/* weights [outputs, size] → values and scales of a matrix, both zeros before. */
void pack_matrix(const float *weights, int64_t outputs, int64_t size, int64_t bits, uint8_t *values,
                 uint16_t *scales, int64_t threads) {
    const int64_t inputs = (size + GROUP - 1) / GROUP * GROUP;
    Packing packing = {weights, {.outputs = outputs, .inputs = inputs, .size = size, .bits = bits}, values, scales};
    in_parallel(pack_chunk, &packing, threads * CHUNKS_OF_THREAD, threads);
}
