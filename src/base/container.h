/* container.h - from a member to the structure that contains it. */
#ifndef FZ_CONTAINER_H
#define FZ_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

/* The structure of type `type` whose member `member` is at `ptr`. */
#define FZ_CONTAINER_OF(ptr, type, member) \
	((type *)((uintptr_t)(ptr)-offsetof(type, member)))

#endif
