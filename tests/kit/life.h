/* life: a script of all that changes a data directory, on a broker without a network, and the model
 * of what was promised meanwhile: topics made and deleted and made again, appends of an idempotent
 * producer, small and large, that roll segments and go round in the journal, commits of offsets,
 * checkpoints, cleaning, retention, DeleteRecords, clean stops and starts.
 *
 * The script's operations on the store are the same each time, until something happens to one of
 * them: so each can be failed, or cut, in turn. What is not as it was promised is counted by kind,
 * and the first of it kept as text; nothing asserts.
 *
 * One thread. After a cut: life_crash, life_start, life_look, then life_run goes on with the step
 * that was cut, as a client would that never heard of it.
 */
#pragma once

#include "tests/kit/broker_kit.h"

enum { LIFE_LOGS = 7, LIFE_TOPICS = 4, LIFE_GROUPS = 2, LIFE_OFFSETS = 512, LIFE_TEXT = 200 };

enum life_loss {
    LIFE_LOST,     /* what was acknowledged is not there: a record, a topic, an offset */
    LIFE_GONE,     /* a record that could be read is not there, or is another one */
    LIFE_WRONG,    /* a record that nobody wrote there, twice, or cannot be read */
    LIFE_REVIVED,  /* what was deleted is there */
    LIFE_NO_START, /* a start failed */
    LIFE_LOSSES
};

enum life_step {
    LIFE_CREATE,
    LIFE_APPEND,
    LIFE_APPEND_LARGE, /* synced in the segments, not in the journal */
    LIFE_COMMIT,
    LIFE_WAIT, /* a checkpoint's time and retention's; cleaning follows */
    LIFE_DELETE_RECORDS,
    LIFE_DELETE_TOPIC,
    LIFE_RESTART, /* a clean stop, and a start */
    LIFE_STEP_KINDS
};

struct life_log {
    struct uuid id;               /* its topic's */
    int64_t end;                  /* acknowledged */
    int64_t seen;                 /* somebody may have read up to here */
    int64_t start;                /* DeleteRecords was answered for it */
    int64_t start_most;           /* it may begin here at most: asked for, or seen */
    int64_t tried;                /* offset of the batch that nobody knows the fate of; -1: none */
    int64_t held;                 /* behind the offset that a fence holds; 0: none */
    int32_t sequence;             /* of its producer's next batch */
    int64_t values[LIFE_OFFSETS]; /* of the record that was last given the offset */
};

struct life_topic {
    bool made;    /* its creation was answered */
    bool dropped; /* its deletion was asked for */
    bool gone;    /* its deletion was answered */
};

struct life {
    struct broker_kit k;
    struct life_log logs[LIFE_LOGS];
    struct life_topic topics[LIFE_TOPICS];
    int64_t committed[LIFE_GROUPS]; /* answered; -1: none */
    int64_t tried[LIFE_GROUPS];     /* the largest that was asked for */
    int step;                       /* the script's next */
    int32_t starts;                 /* so far: a batch that is sent again has other values */
    err answer;                     /* to a topic's change; outlives its step, as the next does */
    struct log_deletion deletion;
    bool runs; /* the broker does */
    uint64_t losses[LIFE_LOSSES];
    char first_loss[LIFE_TEXT];
    uint64_t refused;      /* steps that were answered with an error */
    uint64_t journal_uses; /* of its files, in all */
    uint64_t uses_seen;    /* of them, since the last start */
};

int life_steps(void); /* of the script */
enum life_step life_step_at(int step);
const char *life_step_name(enum life_step kind);
const char *life_loss_name(enum life_loss kind);

void life_init(struct life *l, uint64_t seed); /* of how workers take turns */
void life_finish(struct life *l);

void life_start(struct life *l, bool clean); /* l->runs says whether it did; a refusal is no loss */
void life_must_start(struct life *l, bool clean);  /* a refusal is a loss */
void life_crash(struct life *l, enum sim_cut how); /* and the machine is there again */
void life_run(struct life *l, int until);          /* while it runs and nothing is refused */
bool life_wait(struct life *l);                    /* a while. False: the process has ended */
void life_look(struct life *l);                    /* is all there that was promised? */
bool life_stop(struct life *l); /* true: clean. False: not, or the process has ended on the way */
uint64_t life_loss_count(const struct life *l);

/* Runs run(arg, ret) in a process of its own, as a broken check ends it; what is at ret comes back.
 * False: it ended, and *ret is zeros. */
bool life_apart(void (*run)(const void *arg, void *ret), const void *arg, void *ret, size_t size);
uint64_t life_number(const char *variable, uint64_t otherwise); /* of the environment */
