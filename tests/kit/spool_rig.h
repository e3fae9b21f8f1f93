/* spool_rig: a spool on a simulated disk, in virtual time, with a model of a broker. For cmocka
 * tests, on the test's thread. Events are numbers: an event's value is its number in decimal.
 */
#pragma once

#include "client/spool/internal.h"
#include "tests/kit/sim_store.h"
#include "tests/kit/spool_broker.h"

enum { RIG_OPTIONS_MAX = 8, RIG_EVENTS_MAX = 60000 };

struct spool_rig {
    struct sim_store *store;
    struct sim_clock clock;
    struct spool_broker broker;
    struct rv_spool *spool; /* NULL: not open */
    struct rv_option options[RIG_OPTIONS_MAX];
    int option_count;
    struct rv_error error; /* of the last call */

    uint64_t next;                    /* number of the next event that the test makes */
    uint8_t promised[RIG_EVENTS_MAX]; /* by number: rv_spool_append returned RV_OK */
    uint8_t unsure[RIG_EVENTS_MAX];   /* ... an error that leaves it open */
};

/* Topics "a" (3 partitions) and "b" (1). Not open yet. */
struct spool_rig *spool_rig_create(uint64_t seed);
void spool_rig_destroy(struct spool_rig *r);
void spool_rig_option(struct spool_rig *r, const char *name, const char *value);

int spool_rig_open(struct spool_rig *r);
void spool_rig_close(struct spool_rig *r); /* cleanly; takes one that is not open */
void spool_rig_crash(struct spool_rig *r, enum sim_cut how);

/* Appends the next event to a topic that depends on its number; its key, too. */
int spool_rig_append(struct spool_rig *r);
int spool_rig_append_to(struct spool_rig *r, const char *topic, size_t size);
int spool_rig_send(struct spool_rig *r, int timeout_ms);
struct rv_spool_status spool_rig_status(struct spool_rig *r);

/* What was promised is stored once, in order within each partition, and what is unsure once at
 * most; nothing else is. Events that `is_aside` (may be NULL) says were set aside are not stored.
 */
void spool_rig_check(struct spool_rig *r, bool (*is_aside)(void *ctx, uint64_t number), void *ctx);
