/* memory.h - the memory that this machine and its container have left. */
#ifndef FZ_MEMORY_H
#define FZ_MEMORY_H

#include <stdint.h>

/*
 * Bytes of memory that can be had before something is swapped out or killed,
 * about; UINT64_MAX where the machine does not say.
 */
uint64_t fz_memory_available(void);

#endif
