/* edit_keys.h - the keys of the editor beyond those of libedit. */
#ifndef FZ_EDIT_KEYS_H
#define FZ_EDIT_KEYS_H

#include <histedit.h>

/* Bind the keys of the editor, in place of bindings of the user's .editrc. */
void fz_edit_bind_keys(EditLine *el);

#endif
