/* Work cut into chunks, and threads that take them. */
#ifndef PARALLEL_H
#define PARALLEL_H

#include <stdint.h>

/* Does chunk of chunks; several threads at once. */
typedef void (*Work)(void *context, int64_t chunk, int64_t chunks);

/* Returns when every chunk is done. threads: with fewer than two the
   caller works alone; else there are at least so many. A process that was forked must not call it. */
void in_parallel(Work work, void *context, int64_t chunks, int64_t threads);

#endif
