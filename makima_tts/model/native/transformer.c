/* Transformer layers over quantized weights.

   In: rows of floats, layers, a key-value cache. Out: rows of floats; the cache, written in place. Does not
   know: what a row means. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "matrices.h"
#include "parallel.h"
#include "vectors.h"

#define ROWS_OF_CHUNK 4

/* window: how many positions a row attends to, 0 for all. */
typedef struct {
    Matrix qkv, out, gate_up, down;
    const float *input_norm, *query_norm, *key_norm, *mlp_norm;
    int64_t window;
} Layer;

typedef struct {
    const Layer *layers;
    const float *norm;
    int64_t layer_count, hidden, heads, key_heads, head_size, gelu;
    double eps;
} Stack;

/* Rotary embedding. cosines, sines: [angles, head_size]; of: [rows], the angle of each row. */
typedef struct {
    const float *cosines, *sines;
    const int64_t *of;
} Rotary;

/* Strides in floats: where the keys, and the values, of a layer, a row, a head, a position begin. */
typedef struct {
    float *keys, *values;
    int64_t layer_stride, row_stride, head_stride, position_stride, positions;
} Cache;

INLINE float dot(const float *a, const float *b, int64_t size) {
    f8 first = {0}, second = {0};
    int64_t i = 0;
    for (; i + 16 <= size; i += 16) {
        first += *(const f8 *)(a + i) * *(const f8 *)(b + i);
        second += *(const f8 *)(a + i + 8) * *(const f8 *)(b + i + 8);
    }
    float sum = sum8(first + second);
    for (; i < size; i++) sum += a[i] * b[i];
    return sum;
}

/* RMSNorm (arXiv:1910.07467); to may be row. */
ALONE void normalize(const float *row, const float *weight, int64_t size, double eps, float *to) {
    const float scale = (float)(1 / sqrt(dot(row, row, size) / (double)size + eps));
    for (int64_t i = 0; i < size; i++) to[i] = weight[i] * (row[i] * scale);
}

/* A head, normalized if there is a weight, and rotated (RoFormer, arXiv:2104.09864, by halves). */
ALONE void rotate(float *head, const float *weight, const Stack *stack, const Rotary *rotary, int64_t row) {
    const int64_t size = stack->head_size, half = size / 2;
    const float *cosines = rotary->cosines + rotary->of[row] * size, *sines = rotary->sines + rotary->of[row] * size;
    if (weight) normalize(head, weight, size, stack->eps, head);
    for (int64_t i = 0; i < half; i++) {
        const float first = head[i], second = head[i + half];
        head[i] = first * cosines[i] - second * sines[i];
        head[i + half] = second * cosines[i + half] + first * sines[i + half];
    }
}

/* scores [count] become weights that add up to 1. scores has room for whole vectors. */
ALONE void softmax(float *scores, int64_t count) {
    float largest = scores[0];
    for (int64_t i = 1; i < count; i++) largest = scores[i] > largest ? scores[i] : largest;
    for (int64_t i = count; i % 8; i++) scores[i] = -INFINITY;
    f8 sums = {0};
    for (int64_t i = 0; i < count; i += 8) {
        const f8 shares = exp8(*(f8 *)(scores + i) - largest);
        *(f8 *)(scores + i) = shares;
        if (i + 8 <= count) sums += shares;
        else for (int64_t j = i; j < count; j++) sums[j - i] += shares[j - i];
    }
    const float inverse = 1 / sum8(sums);
    for (int64_t i = 0; i < count; i++) scores[i] *= inverse;
}

/* Keys or values of one head, as a ring: positions, stride apart; first: the index of the first visible one. */
typedef struct {
    const float *rows;
    int64_t first, positions, stride;
} Ring;

INLINE const float *ring_row(const Ring *ring, int64_t at) {
    const int64_t offset = ring->first + at;
    return ring->rows + (offset < ring->positions ? offset : offset - ring->positions) * ring->stride;
}

/* The weighted sum of count values. */
ALONE void weighted_sum(const float *weights, const Ring *values, int64_t count, int64_t size, float *to) {
    int64_t i = 0;
    for (; i + 32 <= size; i += 32) {
        f8 sums[4] = {{0}};
        for (int64_t at = 0; at < count; at++) {
            const float *value = ring_row(values, at) + i;
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) sums[j] += weights[at] * *(const f8 *)(value + 8 * j);
        }
        memcpy(to + i, sums, sizeof sums);
    }
    for (; i < size; i++) {
        float sum = 0;
        for (int64_t at = 0; at < count; at++) sum += weights[at] * ring_row(values, at)[i];
        to[i] = sum;
    }
}

/* One query over count keys and values. scores: room for them. */
ALONE void attend(const float *query, const Ring *keys, const Ring *values, int64_t count, int64_t size,
                  float *scores, float *to) {
    const float scale = 1 / sqrtf((float)size);
    for (int64_t at = 0; at < count; at++) scores[at] = dot(query, ring_row(keys, at), size) * scale;
    softmax(scores, count);
    weighted_sum(scores, values, count, size, to);
}

INLINE f8 activate(f8 x, int64_t gelu) {
    if (!gelu) return x / (1.0f + exp8(-x));
    for (int i = 0; i < 8; i++) x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678f));
    return x;
}

/* gate [count] becomes activation(gate) * up; a last vector that is not full is computed like all others. */
ALONE void gate(float *gated, const float *up, int64_t count, int64_t gelu) {
    for (int64_t i = 0; i < count; i += 8) {
        const size_t bytes = sizeof(float) * (size_t)(count - i < 8 ? count - i : 8);
        f8 x = {0}, by = {0};
        memcpy(&x, gated + i, bytes);
        memcpy(&by, up + i, bytes);
        x = activate(x, gelu) * by;
        memcpy(gated + i, &x, bytes);
    }
}

/* One call: count rows at positions of rows of the cache, and the memory to compute with. */
typedef struct {
    const Stack *stack;
    const Cache *cache;
    float *rows;
    const Rotary *rotary;
    const int64_t *cache_rows, *positions;
    int64_t count, threads;
    Quantized quantized;
    float *fused, *attended, *gate_up, *normed, *scores;
    int64_t scores_stride;
} Call;

/* Writes keys and values of one head into the cache, for all rows, before any row attends to them. */
static void write_cache(const Call *call, const Layer *layer, int64_t key_head, float *keys, float *values) {
    const Stack *stack = call->stack;
    const int64_t size = stack->head_size, width = (stack->heads + 2 * stack->key_heads) * size;
    for (int64_t row = 0; row < call->count; row++) {
        float *key = call->fused + row * width + (stack->heads + key_head) * size;
        const int64_t offset = call->cache_rows[row] * call->cache->row_stride +
                              key_head * call->cache->head_stride +
                              call->positions[row] % call->cache->positions * call->cache->position_stride;
        rotate(key, layer->key_norm, stack, call->rotary, row);
        memcpy(keys + offset, key, sizeof(float) * (size_t)size);
        memcpy(values + offset, key + stack->key_heads * size, sizeof(float) * (size_t)size);
    }
}

/* All queries of one head of keys. */
static void attend_rows(const Call *call, const Layer *layer, int64_t key_head, const float *keys,
                       const float *values, float *scores) {
    const Stack *stack = call->stack;
    const Cache *cache = call->cache;
    const int64_t size = stack->head_size, width = (stack->heads + 2 * stack->key_heads) * size;
    const int64_t groups = stack->heads / stack->key_heads;
    for (int64_t row = 0; row < call->count; row++) {
        const int64_t visible = call->positions[row] + 1;
        const int64_t count = layer->window && layer->window < visible ? layer->window : visible;
        const int64_t offset = call->cache_rows[row] * cache->row_stride + key_head * cache->head_stride;
        const Ring of_keys = {keys + offset, (visible - count) % cache->positions, cache->positions,
                              cache->position_stride};
        Ring of_values = of_keys;
        of_values.rows = values + offset;
        for (int64_t head = key_head * groups; head < (key_head + 1) * groups; head++) {
            float *query = call->fused + row * width + head * size;
            rotate(query, layer->query_norm, stack, call->rotary, row);
            attend(query, &of_keys, &of_values, count, size, scores,
                   call->attended + (row * stack->heads + head) * size);
        }
    }
}

/* What the chunks of one phase of a call share. from, to: [rows, from_stride], [rows, to_stride]. */
typedef struct {
    const Call *call;
    const Layer *layer;
    const Matrix *matrix;
    const float *from, *norm;
    float *to, *keys, *values;
    int64_t from_stride, to_stride;
    int add;
} Phase;

static void quantize_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Phase *phase = context;
    const Call *call = phase->call;
    int64_t begin, end;
    share(call->count, chunk, chunks, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        const float *from = phase->from + row * phase->from_stride;
        float *normed = call->normed + row * call->stack->hidden;
        if (phase->norm) normalize(from, phase->norm, call->stack->hidden, call->stack->eps, normed);
        quantize(phase->norm ? normed : from, phase->matrix, &call->quantized, row);
    }
}

static void multiply_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Phase *phase = context;
    int64_t begin, end;
    share(phase->matrix->outputs, chunk, chunks, &begin, &end);
    multiply(phase->matrix, &phase->call->quantized, phase->call->count, begin, end, phase->to,
             phase->to_stride, phase->add);
}

/* Gate and up of the same channels, one times the other. */
static void gate_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Phase *phase = context;
    const Call *call = phase->call;
    const int64_t width = phase->matrix->outputs, inner = width / 2;
    int64_t begin, end;
    share(inner, chunk, chunks, &begin, &end);
    multiply(phase->matrix, &call->quantized, call->count, begin, end, phase->to, width, 0);
    multiply(phase->matrix, &call->quantized, call->count, inner + begin, inner + end, phase->to, width, 0);
    for (int64_t row = 0; row < call->count; row++) {
        float *gated = phase->to + row * width + begin;
        gate(gated, gated + inner, end - begin, call->stack->gelu);
    }
}

/* One head of keys: all rows' keys and values first, since rows of one prompt attend to one another. */
static void attend_chunk(void *context, int64_t chunk, int64_t chunks) {
    const Phase *phase = context;
    (void)chunks;
    write_cache(phase->call, phase->layer, chunk, phase->keys, phase->values);
    attend_rows(phase->call, phase->layer, chunk, phase->keys, phase->values,
               phase->call->scores + chunk * phase->call->scores_stride);
}

/* from [rows, stride], normalized if there is a weight, times matrix. */
static void multiply_all(const Call *call, const float *from, int64_t stride, const float *norm,
                         const Matrix *matrix, Work work, float *to, int64_t to_stride, int add) {
    Phase phase = {.call = call, .matrix = matrix, .from = from, .from_stride = stride, .norm = norm,
                   .to = to, .to_stride = to_stride, .add = add};
    in_parallel(quantize_chunk, &phase, (call->count + ROWS_OF_CHUNK - 1) / ROWS_OF_CHUNK, call->threads);
    in_parallel(work, &phase, call->threads * CHUNKS_OF_THREAD, call->threads);
}

static void attention(const Call *call, const Layer *layer, int64_t index) {
    const Stack *stack = call->stack;
    Phase phase = {.call = call, .layer = layer,
                   .keys = call->cache->keys + index * call->cache->layer_stride,
                   .values = call->cache->values + index * call->cache->layer_stride};
    multiply_all(call, call->rows, stack->hidden, layer->input_norm, &layer->qkv, multiply_chunk, call->fused,
                 layer->qkv.outputs, 0);
    in_parallel(attend_chunk, &phase, stack->key_heads, call->threads);
    multiply_all(call, call->attended, layer->out.size, NULL, &layer->out, multiply_chunk, call->rows,
                 stack->hidden, 1);
}

static void feed_forward(const Call *call, const Layer *layer) {
    const int64_t hidden = call->stack->hidden, width = layer->gate_up.outputs;
    multiply_all(call, call->rows, hidden, layer->mlp_norm, &layer->gate_up, gate_chunk, call->gate_up, width, 0);
    multiply_all(call, call->gate_up, width, NULL, &layer->down, multiply_chunk, call->rows, hidden, 1);
}

static void run_layers(const Call *call) {
    const Stack *stack = call->stack;
    for (int64_t index = 0; index < stack->layer_count; index++) {
        attention(call, stack->layers + index, index);
        feed_forward(call, stack->layers + index);
    }
    for (int64_t row = 0; row < call->count; row++) {
        float *offset = call->rows + row * stack->hidden;
        normalize(offset, stack->norm, stack->hidden, stack->eps, offset);
    }
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Lays out the buffers of a call from base on; returns how many bytes they take. */
static size_t allocate_from(Call *call, char *base) {
    const Layer *layer = call->stack->layers;
    char *left = base;
    const int64_t inputs = larger(larger(layer->qkv.inputs, layer->out.inputs), layer->down.inputs);
    int64_t last_position = 0;
    for (int64_t row = 0; row < call->count; row++) last_position = larger(last_position, call->positions[row]);
    const int64_t visible = last_position < call->cache->positions ? last_position + 1 : call->cache->positions;
    call->scores_stride = (visible + 31) / 16 * 16;
    cut_quantized(&left, call->count, inputs, &call->quantized);
    call->fused = cut(&left, call->count * layer->qkv.outputs, sizeof(float));
    call->attended = cut(&left, call->count * layer->out.size, sizeof(float));
    call->gate_up = cut(&left, call->count * layer->gate_up.outputs, sizeof(float));
    call->normed = cut(&left, call->count * call->stack->hidden, sizeof(float));
    call->scores = cut(&left, call->scores_stride * call->stack->key_heads, sizeof(float));
    return (size_t)(left - base);
}

/* rows [count, hidden], in place. Positions beyond those of the cache wrap around: it is a ring, and no
   window may be longer than it. 0, or 1 without memory. */
int run_stack(const Stack *stack, const Cache *cache, const Rotary *rotary, float *rows,
              const int64_t *cache_rows, const int64_t *positions, int64_t count, int64_t threads) {
    Call call = {.stack = stack, .cache = cache, .rows = rows, .cache_rows = cache_rows,
                 .positions = positions, .rotary = rotary, .count = count, .threads = threads};
    char *space = aligned_alloc(64, allocate_from(&call, NULL) + 64);
    if (!space) return 1;
    allocate_from(&call, space);
    run_layers(&call);
    free(space);
    return 0;
}

