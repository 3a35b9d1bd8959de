/*
 * list.h - a list of structures that are linked by a member. The head and the
 * links form a ring, so a link can be removed without the head of its list.
 * FZ_CONTAINER_OF (container.h) gives the structure of a link.
 */
#ifndef FZ_LIST_H
#define FZ_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* A head, or a link; a link is all zero outside of a list. */
struct fz_list {
	struct fz_list *next, *prev;
};

static inline void
fz_list_init(struct fz_list *head)
{
	head->next = head->prev = head;
}

/* Whether a link is in a list. */
static inline bool
fz_list_is_linked(const struct fz_list *link)
{
	return link->next != NULL;
}

/* The oldest link; NULL if the list is empty. */
static inline struct fz_list *
fz_list_first(const struct fz_list *head)
{
	return head->next != head ? head->next : NULL;
}

/* The youngest link; NULL if the list is empty. */
static inline struct fz_list *
fz_list_last(const struct fz_list *head)
{
	return head->prev != head ? head->prev : NULL;
}

/* Append a link that is not in a list. */
static inline void
fz_list_push(struct fz_list *head, struct fz_list *link)
{
	link->next = head;
	link->prev = head->prev;
	link->prev->next = link;
	head->prev = link;
}

/* Remove a link from its list; does nothing if it is in no list. */
static inline void
fz_list_remove(struct fz_list *link)
{
	if (link->next == NULL)
		return;
	link->next->prev = link->prev;
	link->prev->next = link->next;
	link->next = link->prev = NULL;
}

#endif
