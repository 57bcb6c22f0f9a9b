/* Work cut into chunks, and threads that take them. */
#ifndef PARALLEL_H
#define PARALLEL_H

#include <stdint.h>

/* Does chunk of chunks; several threads at once. */
typedef void (*Work)(void *context, int64_t chunk, int64_t chunks);

/* Returns when every chunk is done. threads: how many may work, the caller among them. */
void in_parallel(Work work, void *context, int64_t chunks, int64_t threads);

#endif
