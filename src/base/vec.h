/* vec.h - a list that grows by doubling. */
#ifndef FZ_VEC_H
#define FZ_VEC_H

#include <stddef.h>
#include <stdlib.h>

/*
 * Return `list`, perhaps moved, with room for `n` elements of `size` bytes;
 * sets `*cap` to its capacity. Returns NULL if there is no memory; then the
 * list is unchanged.
 */
static inline void *
fz_vec_room(void *list, size_t *cap, size_t n, size_t size)
{
	size_t more = *cap != 0 ? *cap : 8;

	if (n <= *cap)
		return list;
	while (more < n)
		more *= 2;
	list = realloc(list, more * size);
	if (list != NULL)
		*cap = more;
	return list;
}

#endif
