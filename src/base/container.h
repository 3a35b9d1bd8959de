/* container.h - from a member of a structure to the structure. */
#ifndef FZ_CONTAINER_H
#define FZ_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

/* The structure of that type whose `member` is at `ptr`. */
#define FZ_CONTAINER_OF(ptr, type, member) \
	((type *)((uintptr_t)(ptr)-offsetof(type, member)))

#endif
