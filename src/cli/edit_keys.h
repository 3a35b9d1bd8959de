/* edit_keys.h - the keys of the editor that libedit does not have. */
#ifndef FZ_EDIT_KEYS_H
#define FZ_EDIT_KEYS_H

#include <histedit.h>

/*
 * Bind these keys of the editor. They replace bindings in the .editrc of the
 * user.
 */
void fz_edit_bind_keys(EditLine *el);

#endif
