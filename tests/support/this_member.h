/* this_member.h - this process as a member of the shared heap, for tests. */
#ifndef THIS_MEMBER_H
#define THIS_MEMBER_H

#include <stddef.h>
#include <stdint.h>

#include "shared/heap.h"

extern struct fz_membership this_member;

/* The number of this member; the first call joins. 0: joining failed. */
static inline uint32_t
join(void)
{
	return fz_heap_join(&this_member, NULL);
}

#endif
