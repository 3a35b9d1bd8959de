/* this_member.h - the member of the shared heap that a test is. */
#ifndef THIS_MEMBER_H
#define THIS_MEMBER_H

#include <stddef.h>
#include <stdint.h>

#include "shared/heap.h"

extern struct fz_membership this_member;

/* Its number; it joins with the first call. 0: it cannot. */
static inline uint32_t
join(void)
{
	return fz_heap_join(&this_member, NULL);
}

#endif
