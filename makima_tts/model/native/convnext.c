/* A ConvNeXt block without its matrices: a depthwise convolution, a layer norm, a gelu.

   In: features in floats, the conv state. Out: features; the conv state of the next call. Does not know:
   slots, the block's matrices.

   The order of summation is fixed: torch's depends on the number of rows, and rounding to sixteen bits turns
   a different last bit into a step. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

/* weights: [taps, channels]; bias, norm, norm_bias: [channels]. */
typedef struct {
    const float *weights, *bias, *norm, *norm_bias;
    int64_t taps, channels;
    double eps;
} Depthwise;

/* out [channels] = norm of the sum of rows [taps, channels], each times its weights. */
ALONE void convolve_row(const Depthwise *conv, const float *const *rows, float *out) {
    const int64_t channels = conv->channels;
    memcpy(out, conv->bias, sizeof(float) * (size_t)channels);
    for (int64_t tap = 0; tap < conv->taps; tap++) {
        const float *factors = conv->weights + tap * channels, *row = rows[tap];
        for (int64_t i = 0; i < channels; i++) out[i] += factors[i] * row[i];
    }
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < channels; i++) sum += out[i];
    const double mean = sum / (double)channels;
    for (int64_t i = 0; i < channels; i++) squares += (out[i] - mean) * (out[i] - mean);
    const float scale = (float)(1 / sqrt(squares / (double)channels + conv->eps)), middle = (float)mean;
    for (int64_t i = 0; i < channels; i++)
        out[i] = (out[i] - middle) * scale * conv->norm[i] + conv->norm_bias[i];
}

/* features, out: [time, channels]; state: the taps - 1 rows before them, then the last of them. Returns 1
   without memory, else 0. */
static int convolve_stream(const Depthwise *conv, const float *features, float *state, int64_t time, float *out) {
    const int64_t channels = conv->channels, before = conv->taps - 1;
    const size_t row_bytes = sizeof(float) * (size_t)channels;
    float *rows = malloc((size_t)(before + time) * row_bytes);
    const float **window = malloc((size_t)conv->taps * sizeof *window);
    const int failed = !rows || !window;
    if (!failed) {
        memcpy(rows, state, (size_t)before * row_bytes);
        memcpy(rows + before * channels, features, (size_t)time * row_bytes);
        for (int64_t at = 0; at < time; at++) {
            for (int64_t tap = 0; tap < conv->taps; tap++) window[tap] = rows + (at + tap) * channels;
            convolve_row(conv, window, out + at * channels);
        }
        memcpy(state, rows + time * channels, (size_t)before * row_bytes);
    }
    free(rows);
    free(window);
    return failed;
}

/* features, out: [batch, time, channels]; state: [batch, state_stride]. Returns 1 without memory, else 0. */
int convolve_depthwise(const Depthwise *conv, const float *features, float *state, int64_t state_stride,
                       int64_t batch, int64_t time, float *out) {
    const int64_t size = time * conv->channels;
    for (int64_t row = 0; row < batch; row++)
        if (convolve_stream(conv, features + row * size, state + row * state_stride, time, out + row * size))
            return 1;
    return 0;
}

/* In place, the exact form: x times the normal distribution's cumulative function. */
void gelu(float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++) x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678f));
}
