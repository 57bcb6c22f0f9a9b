/* Causal convolutions over weights and features of sixteen bits, for the codec: eight are audible there.

   In: features in floats, packed weights, the conv state. Out: features in floats; the conv state of the next
   call. Does not know: slots, what the features are of.

   A window is a few rows of features, one for each tap; a convolution is a row of weights times a window.
   Numbers have thirteen bits, so that the products of SPAN of them add up in 32, exactly; a row of features
   has a scale for each SPAN of its channels, an output one for all of its weights. So a sample does not
   depend on how many are computed at once, nor on the number of threads.

   The inner product has a version for AVX2, one for AVX-512 VNNI, and one in plain C. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "matrices.h"
#include "parallel.h"
#include "vectors.h"

#define SPAN 1024
#define MAX_NUMBER 4095.0f
_Static_assert(4095LL * 4095 * SPAN / 8 <= INT32_MAX, "a lane of AVX2 would overflow");
/* Channels are padded with zeros to a multiple of it. */
#define LANES 32
#define TILE_ROWS 4
#define TILE_OUTPUTS 2
#define CACHED_OUTPUTS 16
#define ROWS_OF_CHUNK 32

/* weights: [outputs, taps, width]; scales, bias: [outputs]. width: channels, padded. frequency, amplitude:
   [channels] of the snake of the input, or NULL. */
typedef struct {
    const int16_t *weights;
    const float *scales, *bias, *frequency, *amplitude;
    int64_t outputs, taps, dilation, channels, width;
} Convolution;

/* features: [batch, time, channels]; state: [batch, state_stride], the first (taps - 1) * dilation rows of
   which are the inputs before; residual, out: [batch, time, outputs]; the residual is added, unless NULL. */
typedef struct {
    const Convolution *conv;
    const float *features, *residual;
    float *state, *out;
    int64_t batch, time, state_stride;
    int64_t before, length, spans;
    int16_t *numbers; /* [batch, before + time, width] */
    float *scales;    /* [batch, before + time, spans] */
    float *next_state; /* [batch, before, channels] */
} Pass;

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

typedef __m512i Whole;
typedef __m512 Real;
#define STEP 32
INLINE Whole load_step(const int16_t *from) { return _mm512_loadu_si512(from); }
INLINE Whole no_whole(void) { return _mm512_setzero_si512(); }
INLINE Whole add_products(Whole sum, Whole a, Whole b) { return _mm512_dpwssd_epi32(sum, a, b); }
INLINE Real no_real(void) { return _mm512_setzero_ps(); }
INLINE Real add_times(Real sum, Whole part, const float *scale) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(part), _mm512_set1_ps(*scale), sum);
}
INLINE f8 eight_of(Real sum) {
    return (f8)_mm512_castps512_ps256(sum) + (f8)_mm512_extractf32x8_ps(sum, 1);
}

#elif defined(__AVX2__) && defined(__FMA__)

typedef __m256i Whole;
typedef __m256 Real;
#define STEP 16
INLINE Whole load_step(const int16_t *from) { return _mm256_loadu_si256((const __m256i *)from); }
INLINE Whole no_whole(void) { return _mm256_setzero_si256(); }
INLINE Whole add_products(Whole sum, Whole a, Whole b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
INLINE Real no_real(void) { return _mm256_setzero_ps(); }
INLINE Real add_times(Real sum, Whole part, const float *scale) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(part), _mm256_set1_ps(*scale), sum);
}
INLINE f8 eight_of(Real sum) { return (f8)sum; }

#else

typedef i8 Whole;
typedef f8 Real;
#define STEP 8
INLINE Whole load_step(const int16_t *from) { return __builtin_convertvector(*(const s8 *)from, i8); }
INLINE Whole no_whole(void) { return (i8){0}; }
INLINE Whole add_products(Whole sum, Whole a, Whole b) { return sum + a * b; }
INLINE Real no_real(void) { return (f8){0}; }
INLINE Real add_times(Real sum, Whole part, const float *scale) {
    f8 product = __builtin_convertvector(part, f8) * *scale;
    ROUNDED(product); /* a tile must not differ from its rows */
    return sum + product;
}
INLINE f8 eight_of(Real sum) { return sum; }

#endif

/* sin(x) squared. Its period is pi: whole multiples are subtracted. The remainder is at most half of pi, and
   its sine a polynomial (within 1e-7, fitted at Chebyshev's points). */
INLINE f8 sine_squared(f8 x) {
    const f8 zero = {0}, half = zero + 0.5f, limit = zero + 1.5707964f;
    const f8 turns = x * 0.31830988618f;
    const f8 whole = __builtin_convertvector(
        __builtin_convertvector(turns + select8(turns < zero, -half, half), i8), f8);
    f8 r = x - whole * 3.140625f;
    r -= whole * 9.67502593994140625e-4f;
    r -= whole * 1.509957990978376432e-7f;
    r = select8(r > limit, limit, select8(r < -limit, -limit, r));
    const f8 square = r * r;
    f8 sine = -2.38889859e-8f * square + 2.75256023e-6f;
    sine = sine * square - 1.98408743e-4f;
    sine = sine * square + 8.33333310e-3f;
    sine = sine * square - 1.66666667e-1f;
    sine = sine * square * r + r;
    return sine * sine;
}

/* x + sin(x * frequency)^2 * amplitude. */
ALONE void snake(const float *from, const Convolution *conv, float *to) {
    int64_t i = 0;
    for (; i + 8 <= conv->channels; i += 8) {
        const f8 x = *(const f8 *)(from + i);
        const f8 wave = sine_squared(x * *(const f8 *)(conv->frequency + i));
        *(f8 *)(to + i) = x + wave * *(const f8 *)(conv->amplitude + i);
    }
    for (; i < conv->channels; i++) {
        const f8 wave = sine_squared((f8){0} + from[i] * conv->frequency[i]);
        to[i] = from[i] + wave[0] * conv->amplitude[i];
    }
}

/* row [channels] becomes numbers [width] and scales [spans]. An infinity or NaN makes a scale NaN. */
ALONE void quantize_features(const float *row, int64_t channels, int64_t width, int16_t *numbers, float *scales) {
    const f8 round_up = (f8){0} + 4096.5f;
    for (int64_t begin = 0; begin < width; begin += SPAN) {
        const int64_t end = begin + SPAN < width ? begin + SPAN : width;
        f8 block[SPAN / 8] = {{0}}, largest = {0}, check = {0};
        memcpy(block, row + begin, sizeof(float) * (size_t)((end < channels ? end : channels) - begin));
        for (int64_t i = 0; i < (end - begin) / 8; i++) {
            const f8 magnitude = (f8)((i8)block[i] & 0x7fffffff);
            largest = select8(magnitude > largest, magnitude, largest);
            check += block[i] * 0.0f;
        }
        const float extreme = most8(largest), inverse = extreme > 0 ? MAX_NUMBER / extreme : 0;
        for (int64_t i = 0; i < (end - begin) / 8; i++) {
            const i8 whole = __builtin_convertvector(block[i] * inverse + round_up, i8) - 4096;
            *(s8 *)(numbers + begin + 8 * i) = __builtin_convertvector(whole, s8);
        }
        scales[begin / SPAN] = extreme / MAX_NUMBER + sum8(check);
    }
}

/* Quantizes row ``at`` of a batch row's input: the conv state, then the features after the snake. */
static void prepare_row(const Pass *pass, int64_t batch, int64_t at, float *room) {
    const Convolution *conv = pass->conv;
    const int64_t channels = conv->channels, position = batch * pass->length + at;
    const float *row = pass->state + batch * pass->state_stride + at * channels;
    if (at >= pass->before) {
        row = pass->features + (batch * pass->time + at - pass->before) * channels;
        if (conv->frequency) {
            snake(row, conv, room);
            row = room;
        }
    }
    quantize_features(row, channels, conv->width, pass->numbers + position * conv->width, pass->scales + position * pass->spans);
    if (at >= pass->time)
        memcpy(pass->next_state + (batch * pass->before + at - pass->time) * channels, row,
               sizeof(float) * (size_t)channels);
}

static void prepare_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Pass *pass = context;
    float room[pass->conv->width];
    int64_t begin, end;
    share(pass->batch * pass->length, chunk, chunks, &begin, &end);
    for (int64_t row = begin; row < end; row++) prepare_row(pass, row / pass->length, row % pass->length, room);
}

/* Products of count numbers of four rows and two outputs: sums[2 * row + output]. */
INLINE void multiply_span(const int16_t *rows, int64_t row_stride, const int16_t *outputs, int64_t output_stride,
                          int64_t count, Whole sums[8]) {
    const int16_t *row0 = rows, *row1 = rows + row_stride, *row2 = row1 + row_stride, *row3 = row2 + row_stride;
    const int16_t *output0 = outputs, *output1 = outputs + output_stride;
    Whole s00 = no_whole(), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
    for (int64_t at = 0; at < count; at += STEP) {
        const Whole first = load_step(output0 + at), second = load_step(output1 + at);
        const Whole x0 = load_step(row0 + at), x1 = load_step(row1 + at);
        s00 = add_products(s00, x0, first), s01 = add_products(s01, x0, second);
        s10 = add_products(s10, x1, first), s11 = add_products(s11, x1, second);
        const Whole x2 = load_step(row2 + at), x3 = load_step(row3 + at);
        s20 = add_products(s20, x2, first), s21 = add_products(s21, x2, second);
        s30 = add_products(s30, x3, first), s31 = add_products(s31, x3, second);
    }
    sums[0] = s00, sums[1] = s01, sums[2] = s10, sums[3] = s11;
    sums[4] = s20, sums[5] = s21, sums[6] = s30, sums[7] = s31;
}

/* Windows of four consecutive samples by two consecutive outputs: sums[2 * row + output]. */
INLINE f8 convolve_tile(const Pass *pass, int64_t first, int64_t output) {
    const Convolution *conv = pass->conv;
    const int64_t width = conv->width, spans = pass->spans, stride = conv->taps * width;
    Real real[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) real[i] = no_real();
    for (int64_t tap = 0; tap < conv->taps; tap++)
        for (int64_t span = 0; span < spans; span++) {
            const int64_t position = first + tap * conv->dilation, begin = span * SPAN;
            const float *scale = pass->scales + position * spans + span;
            Whole whole[8];
            multiply_span(pass->numbers + position * width + begin, width,
                          conv->weights + output * stride + tap * width + begin, stride,
                          begin + SPAN < width ? SPAN : width - begin, whole);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) real[i] = add_times(real[i], whole[i], scale + i / 2 * spans);
        }
    f8 lanes[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) lanes[i] = eight_of(real[i]);
    return sums_of8(lanes);
}

/* The same of one sample and one output: sums[0]. */
ALONE f8 convolve_one(const Pass *pass, int64_t first, int64_t output) {
    const Convolution *conv = pass->conv;
    const int64_t width = conv->width, spans = pass->spans;
    Real real = no_real();
    for (int64_t tap = 0; tap < conv->taps; tap++)
        for (int64_t span = 0; span < spans; span++) {
            const int64_t position = first + tap * conv->dilation, begin = span * SPAN;
            const int64_t end = begin + SPAN < width ? begin + SPAN : width;
            const int16_t *weights = conv->weights + (output * conv->taps + tap) * width;
            Whole whole = no_whole();
            for (int64_t at = begin; at < end; at += STEP)
                whole = add_products(whole, load_step(pass->numbers + position * width + at), load_step(weights + at));
            real = add_times(real, whole, pass->scales + position * spans + span);
        }
    const f8 lanes[8] = {eight_of(real)};
    return sums_of8(lanes);
}

/* Scales a sum, adds the bias and the residual, and stores it. */
ALONE void put(const Pass *pass, int64_t position, int64_t output, float sum) {
    const Convolution *conv = pass->conv;
    const int64_t at = position * conv->outputs + output;
    float scaled = sum * conv->scales[output];
    ROUNDED(scaled);
    const float value = scaled + conv->bias[output];
    pass->out[at] = pass->residual ? pass->residual[at] + value : value;
}

/* The same for a whole tile. */
INLINE void put_tile(const Pass *pass, int64_t position, int64_t output, f8 sums) {
    const Convolution *conv = pass->conv;
    const float *scale = conv->scales + output, *bias = conv->bias + output;
    const f8 scales = {scale[0], scale[1], scale[0], scale[1], scale[0], scale[1], scale[0], scale[1]};
    const f8 biases = {bias[0], bias[1], bias[0], bias[1], bias[0], bias[1], bias[0], bias[1]};
    f8 scaled = sums * scales;
    ROUNDED(scaled);
    const f8 values = scaled + biases;
    for (int row = 0; row < TILE_ROWS; row++)
        for (int i = 0; i < TILE_OUTPUTS; i++) {
            const int64_t at = (position + row) * conv->outputs + output + i;
            pass->out[at] = pass->residual ? pass->residual[at] + values[2 * row + i] : values[2 * row + i];
        }
}

/* Samples from time on, at most a tile of them, by a tile of outputs at most. */
static void convolve_some(const Pass *pass, int64_t batch, int64_t time, int64_t rows, int64_t output,
                          int64_t outputs) {
    const int64_t first = batch * pass->length + time, position = batch * pass->time + time;
    if (rows == TILE_ROWS && outputs == TILE_OUTPUTS) {
        put_tile(pass, position, output, convolve_tile(pass, first, output));
        return;
    }
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < outputs; i++)
            put(pass, position + row, output + i, convolve_one(pass, first + row, output + i)[0]);
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Some outputs at a time: their weights stay in the cache while tiles of samples are computed. */
static void convolve(const Pass *pass, int64_t batch, int64_t begin, int64_t end, int64_t first, int64_t last) {
    for (int64_t group = first; group < last; group += CACHED_OUTPUTS)
        for (int64_t time = begin; time < end; time += TILE_ROWS)
            for (int64_t output = group; output < smaller(group + CACHED_OUTPUTS, last); output += TILE_OUTPUTS)
                convolve_some(pass, batch, time, smaller(TILE_ROWS, end - time), output,
                              smaller(TILE_OUTPUTS, smaller(group + CACHED_OUTPUTS, last) - output));
}

/* By outputs, so that each thread reads its weights once. */
static void outputs_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Pass *pass = context;
    int64_t begin, end;
    share(pass->conv->outputs, chunk, chunks, &begin, &end);
    for (int64_t batch = 0; batch < pass->batch; batch++) convolve(pass, batch, 0, pass->time, begin, end);
}

/* By samples, where there are many and the weights are few. */
static void samples_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Pass *pass = context;
    const int64_t per_row = chunks / pass->batch, tiles = (pass->time + TILE_ROWS - 1) / TILE_ROWS;
    int64_t begin, end;
    share(tiles, chunk % per_row, per_row, &begin, &end);
    convolve(pass, chunk / per_row, begin * TILE_ROWS, smaller(end * TILE_ROWS, pass->time), 0,
             pass->conv->outputs);
}

static size_t lay_out(Pass *pass, char *base) {
    char *left = base;
    const int64_t rows = pass->batch * pass->length;
    pass->numbers = cut(&left, rows * pass->conv->width, sizeof(int16_t));
    pass->scales = cut(&left, rows * pass->spans, sizeof(float));
    pass->next_state = cut(&left, pass->batch * pass->before * pass->conv->channels, sizeof(float));
    return (size_t)(left - base);
}

/* Returns 1 without memory, else 0. */
int convolve_features(const Convolution *conv, const float *features, float *state, int64_t state_stride,
                      int64_t batch, int64_t time, const float *residual, float *out, int64_t threads) {
    const int64_t before = (conv->taps - 1) * conv->dilation;
    Pass pass = {.conv = conv, .features = features, .residual = residual, .state = state, .out = out, .batch = batch, .time = time,
                 .state_stride = state_stride, .before = before, .length = before + time,
                 .spans = (conv->width + SPAN - 1) / SPAN};
    char *space = aligned_alloc(64, lay_out(&pass, NULL) + 64);
    if (!space) return 1;
    lay_out(&pass, space);
    in_parallel(prepare_chunk, &pass, (batch * pass.length + ROWS_OF_CHUNK - 1) / ROWS_OF_CHUNK, threads);
    if (time >= conv->outputs) in_parallel(samples_chunk, &pass, batch * threads * CHUNKS_OF_THREAD, threads);
    else in_parallel(outputs_chunk, &pass, threads * CHUNKS_OF_THREAD, threads);
    for (int64_t row = 0; row < batch && before; row++)
        memcpy(state + row * state_stride, pass.next_state + row * before * conv->channels,
               sizeof(float) * (size_t)(before * conv->channels));
    free(space);
    return 0;
}

/* weights [outputs, taps, channels] → numbers [outputs, taps, width] and scales [outputs]. */
void pack_convolution(const float *weights, int64_t outputs, int64_t taps, int64_t channels, int64_t width,
                      int16_t *numbers, float *scales) {
    for (int64_t output = 0; output < outputs; output++) {
        const float *row = weights + output * taps * channels;
        float largest = 0, check = 0;
        for (int64_t i = 0; i < taps * channels; i++) {
            largest = fabsf(row[i]) > largest ? fabsf(row[i]) : largest;
            check += row[i] * 0.0f;
        }
        const float inverse = largest > 0 ? MAX_NUMBER / largest : 0;
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t i = 0; i < width; i++)
                numbers[(output * taps + tap) * width + i] =
                    i < channels ? (int16_t)rintf(row[tap * channels + i] * inverse) : 0;
        scales[output] = largest / MAX_NUMBER + check;
    }
}
