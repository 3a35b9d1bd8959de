/* strings.h - lists of strings that end in NUL, in packets and messages. */
#ifndef FZ_STRINGS_H
#define FZ_STRINGS_H

#include <stddef.h>
#include <string.h>

struct fz_strings {
	const char *at, *end;
};

/* The next string; "" after the last one, and for a string without its NUL. */
static inline const char *
fz_strings_next(struct fz_strings *s)
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

/*
 * Copy a text of at most `n` bytes that another machine has sent, with its NUL
 * in at most `room` bytes. Characters that control a terminal become '?'.
 * Returns the number of bytes.
 */
static inline size_t
fz_strings_copy(char *to, size_t room, const char *text, size_t n)
{
	size_t len = 0;

	while (len < n && len + 1 < room && text[len] != '\0') {
		unsigned char c = (unsigned char)text[len];

		to[len++] = c < ' ' || c >= 0x7f ? '?' : (char)c;
	}
	to[len] = '\0';
	return len + 1;
}

#endif
