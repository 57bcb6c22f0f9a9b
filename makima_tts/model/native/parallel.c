/* A pool of threads for chunks of microseconds.

   In: work in chunks. Out: all of them done. Does not know: what the work is.

   Any free thread takes the next chunk, the caller too. So a caller never waits for a thread that is not
   scheduled yet, only for one that has begun a chunk: on cores shared with other processes, threads that all
   have to reach a barrier spend their time waiting for one another. */

#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#define MOST_THREADS 64
/* How often a thread looks for work before it sleeps: some hundred microseconds, more than lies between two
   steps of one computation, less than between two computations. */
#define LOOKS 4000
/* How often a caller looks whether others are done before it yields its core. */
#define POLITE_LOOKS 200

/* job: its number, how many chunks it has, which is next; one integer, so that they change atomically. */
#define CHUNK_BITS 20
#define MOST_CHUNKS ((1 << CHUNK_BITS) - 1)

static struct {
    _Atomic uint64_t job;
    _Atomic int64_t done;
    Work work;
    void *context;
    pthread_mutex_t caller, sleep;
    pthread_cond_t wake;
    _Atomic int64_t sleeping;
    int64_t threads;
} pool = {.caller = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static uint64_t new_job(uint64_t number, uint64_t chunks) {
    return number << 2 * CHUNK_BITS | chunks << CHUNK_BITS;
}

static int64_t next_of(uint64_t job) { return (int64_t)(job & MOST_CHUNKS); }

static int64_t chunks_of(uint64_t job) { return (int64_t)(job >> CHUNK_BITS & MOST_CHUNKS); }

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes and does a chunk, if there is one left. */
static bool take_one(void) {
    uint64_t job = atomic_load_explicit(&pool.job, memory_order_acquire);
    while (next_of(job) < chunks_of(job)) {
        if (!atomic_compare_exchange_weak(&pool.job, &job, job + 1)) continue;
        /* The job cannot end, and the next one not begin, before this chunk is done. */
        pool.work(pool.context, next_of(job), chunks_of(job));
        atomic_fetch_add(&pool.done, 1);
        return true;
    }
    return false;
}

static bool no_chunk_left(void) {
    const uint64_t job = atomic_load(&pool.job);
    return next_of(job) >= chunks_of(job);
}

static void fall_asleep(void) {
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.sleeping, 1);
    while (no_chunk_left()) pthread_cond_wait(&pool.wake, &pool.sleep);
    atomic_fetch_sub(&pool.sleeping, 1);
    pthread_mutex_unlock(&pool.sleep);
}

static void *help(void *unused) {
    for (int looks = 0;;) {
        if (take_one()) looks = 0;
        else if (++looks < LOOKS) relax();
        else fall_asleep(), looks = 0;
    }
    return unused;
}

/* Threads are never ended: they sleep until the process does. */
static void grow(int64_t threads) {
    while (pool.threads < threads - 1 && pool.threads < MOST_THREADS - 1) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, NULL)) return;
        pthread_detach(thread);
        pool.threads++;
    }
}

static void publish(int64_t chunks) {
    atomic_store(&pool.done, 0);
    const uint64_t number = atomic_load(&pool.job) >> 2 * CHUNK_BITS;
    atomic_store(&pool.job, new_job(number + 1, (uint64_t)chunks));
    if (!atomic_load(&pool.sleeping)) return;
    pthread_mutex_lock(&pool.sleep);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.sleep);
}

static void wait_until_done(int64_t chunks) {
    for (int looks = 0; atomic_load(&pool.done) < chunks; looks++)
        if (looks < POLITE_LOOKS) relax();
        else sched_yield();
}

void in_parallel(Work work, void *context, int64_t chunks, int64_t threads) {
    if (chunks > MOST_CHUNKS) chunks = MOST_CHUNKS;
    /* Another caller's computation uses the threads: this one computes alone. */
    if (threads < 2 || chunks < 2 || pthread_mutex_trylock(&pool.caller)) {
        for (int64_t chunk = 0; chunk < chunks; chunk++) work(context, chunk, chunks);
        return;
    }
    grow(threads);
    pool.work = work;
    pool.context = context;
    publish(chunks);
    while (take_one()) continue;
    wait_until_done(chunks);
    pthread_mutex_unlock(&pool.caller);
}
