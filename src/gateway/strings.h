/* strings.h - lists of strings that end in NUL, in packets and messages. */
#ifndef FZ_GATEWAY_STRINGS_H
#define FZ_GATEWAY_STRINGS_H

#include <stddef.h>
#include <string.h>

struct strings {
	const char *at, *end;
};

/* The next string; "" behind the last one, and for one without its end. */
static inline const char *
strings_next(struct strings *s)
{
	const char *text = s->at;
	const char *nul = s->at < s->end
			      ? memchr(s->at, '\0', (size_t)(s->end - s->at))
			      : NULL;

	if (nul == NULL) {
		s->at = s->end;
		return "";
	}
	s->at = nul + 1;
	return text;
}

#endif
