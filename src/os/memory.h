/* memory.h - the memory that this machine and its container have left. */
#ifndef FZ_MEMORY_H
#define FZ_MEMORY_H

#include <stdint.h>

/*
 * An estimate of the bytes that can be allocated before the system swaps, or
 * kills a process. UINT64_MAX if the system does not say.
 */
uint64_t fz_memory_available(void);

#endif
