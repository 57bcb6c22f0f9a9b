/* What a ConvNeXt block does beside its products: a depthwise convolution, a layer norm, a gelu.

   In: features in floats, what came before. Out: features; what came before the next call. Does not know:
   slots, the block's matrices.

   Channel by channel, row by row, in one order: torch's own come to other last bits for other numbers of rows,
   and sixteen bits make steps of them. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

/* taps: [taps, channels]; bias, norm, norm_bias: [channels]. */
typedef struct {
    const float *taps, *bias, *norm, *norm_bias;
    int64_t count, channels;
    double eps;
} Mixing;

/* to [channels] = norm of the sum of rows [count, channels], each times its tap. */
ALONE void mix_row(const Mixing *mixing, const float *const *rows, float *to) {
    const int64_t channels = mixing->channels;
    memcpy(to, mixing->bias, sizeof(float) * (size_t)channels);
    for (int64_t tap = 0; tap < mixing->count; tap++) {
        const float *factors = mixing->taps + tap * channels, *row = rows[tap];
        for (int64_t i = 0; i < channels; i++) to[i] += factors[i] * row[i];
    }
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < channels; i++) sum += to[i];
    const double mean = sum / (double)channels;
    for (int64_t i = 0; i < channels; i++) squares += (to[i] - mean) * (to[i] - mean);
    const float scale = (float)(1 / sqrt(squares / (double)channels + mixing->eps)), middle = (float)mean;
    for (int64_t i = 0; i < channels; i++)
        to[i] = (to[i] - middle) * scale * mixing->norm[i] + mixing->norm_bias[i];
}

/* features, to: [time, channels]; past: the count - 1 rows before them, then the last of them. 0, or 1 without
   memory. */
static int mix_stream(const Mixing *mixing, const float *features, float *past, int64_t time, float *to) {
    const int64_t channels = mixing->channels, before = mixing->count - 1;
    const size_t row_bytes = sizeof(float) * (size_t)channels;
    float *rows = malloc((size_t)(before + time) * row_bytes);
    const float **window = malloc((size_t)mixing->count * sizeof *window);
    const int failed = !rows || !window;
    if (!failed) {
        memcpy(rows, past, (size_t)before * row_bytes);
        memcpy(rows + before * channels, features, (size_t)time * row_bytes);
        for (int64_t at = 0; at < time; at++) {
            for (int64_t tap = 0; tap < mixing->count; tap++) window[tap] = rows + (at + tap) * channels;
            mix_row(mixing, window, to + at * channels);
        }
        memcpy(past, rows + time * channels, (size_t)before * row_bytes);
    }
    free(rows);
    free(window);
    return failed;
}

/* features, to: [batch, time, channels]; past: [batch, past_stride]. 0, or 1 without memory. */
int mix_features(const Mixing *mixing, const float *features, float *past, int64_t past_stride, int64_t batch,
                 int64_t time, float *to) {
    const int64_t size = time * mixing->channels;
    for (int64_t row = 0; row < batch; row++)
        if (mix_stream(mixing, features + row * size, past + row * past_stride, time, to + row * size)) return 1;
    return 0;
}

/* In place, exactly: x times the share of a normal distribution that lies below it. */
void gelu(float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++) x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678f));
}
