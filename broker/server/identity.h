/* identity: what a data directory says of itself: its format, whose it is, how it was left, and how
 * often it was started.
 *
 * Read and written at the start and the stop, blocking, through the store.
 */
#pragma once

#include "base/diag.h"
#include "base/str.h"
#include "broker/store/store.h"

enum { IDENTITY_FORMAT = 2, IDENTITY_FORMAT_OLDEST = 1 }; /* of the layout: rivulet.format */

struct identity {
    char cluster_id[UUID_TEXT_SIZE]; /* 0-terminated */
    char directory_id[UUID_TEXT_SIZE];
    int32_t node_id;
    int32_t start_number; /* > 0, higher at every start: the leader epoch */
    bool clean;           /* the last stop was clean; the mark is gone, durably */
};

/* Locks the directory for as long as the store is open. Errors are logged: ERR_BUSY (another
 * process), and the store's. */
err identity_lock(struct store *store, const struct diag *diag);

/* Makes or checks the files of a locked directory, raises and syncs the start number. Errors are
 * logged: ERR_UNSUPPORTED (a layout this build does not know, or not
 * rivulet's), ERR_INVALID (another node's), ERR_CORRUPT, and the store's. */
err identity_open(struct store *store, int32_t node_id, const struct diag *diag,
                  struct identity *ret_identity);

/* Everything is synced: the next start need not scan. */
err identity_mark_clean(struct store *store);
