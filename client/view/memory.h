/* memory: a view's own storage: a table, and on request a file with all of it. */
#pragma once

#include "client/view/keys.h"

struct view_memory {
    struct keys table;
    struct rv_view_state state; /* as it was saved last; positions owned */
    char *topic;                /* owned: whose view it is */
    char *path;                 /* owned; NULL: no file */
};

/* `path` NULL or "": no file. RV_E_MEMORY. */
int memory_create(const char *topic, const char *path, uint64_t limit_bytes,
                  struct view_memory **ret_memory, struct rv_error *ret_error);
struct rv_view_storage memory_storage(struct view_memory *m); /* its close destroys `m` */

/* ---- snapshot.c: the file ---- */

/* RV_E_CORRUPT: it is damaged, of another topic or of another version, and `m` is empty;
 * RV_E_ABSENT: there is none. */
int snapshot_load(struct view_memory *m, struct rv_error *ret_error);
int snapshot_save(struct view_memory *m, struct rv_error *ret_error);
/* The same of bytes in memory. */
int snapshot_read(struct view_memory *m, const void *bytes, size_t size,
                  struct rv_error *ret_error);

/* Sets *ret_error (takes NULL) and returns the code. */
int view_fail(struct rv_error *ret_error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
