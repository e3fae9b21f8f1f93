/* shard: a loop with everything that it alone touches, and how loops speak with each other.
 *
 * A partition belongs to one shard by the hash of its topic's id and its number; an internal
 * topic's to its number modulo the shards, so that a group has a shard before its topic is there.
 * Topics and settings are the first shard's.
 *
 * A message is the only thing that crosses: it runs where it is sent to, and comes back where it
 * came from. It lies in its sender's memory and belongs to its receiver in between, with what it
 * points to. Between two shards messages keep their order, there and back; between others there is
 * none. To one's own shard a message is a call: with one shard nothing is ever queued.
 *
 * A queue is touched by two loops and nothing else is; while all shards run on one thread, it is a
 * list. Then `wake` says to the receiver's loop that there is something for shard_deliver.
 */
#pragma once

#include "base/list.h"
#include "base/str.h"

struct api_env;
struct coord;
struct log_manager;
struct shards;

struct shard {
    struct shards *all;       /* borrowed */
    int32_t index;            /* in it */
    struct log_manager *logs; /* borrowed, as what follows: what a message finds where it runs */
    struct coord *coord;
    struct api_env *env;
    struct list *inbox;      /* owned array: of struct message, from each shard, in order */
    void (*wake)(void *ctx); /* on the sender's thread; NULL: somebody looks anyway */
    void *ctx;               /* for wake */
};

struct shards {
    struct shard *list; /* owned array */
    int32_t count;
};

void shards_init(struct shards *all, int32_t count);
void shards_finish(struct shards *all); /* nothing may be on its way; takes a zeroed one */

/* The shard's index, from what never changes of a partition. */
int32_t shard_of_partition(const struct shards *all, struct uuid topic, int32_t partition);
int32_t shard_of_internal(const struct shards *all, int32_t partition);

struct message {
    bool (*run)(struct message *m);  /* at the receiver. True: dealt with; false: message_return
                                        comes, later */
    void (*done)(struct message *m); /* at the sender, when it is back; NULL: it does not come back,
                                        and is the receiver's from `run` on */
    struct shard *from;              /* borrowed; the sender */
    struct shard *to;                /* borrowed; the receiver */
    bool back;                       /* it is on its way back */
    struct list link; /* the inbox's on the way; the receiver's between `run` and the return */
};

/* True: dealt with at once, and `done` will not be called. False: it will, unless it is NULL; never
 * from inside of this call. */
bool message_send(struct message *m, struct shard *from, struct shard *to);
void message_return(struct message *m); /* at the receiver, after `run` gave false */

/* At the receiver: takes the first message from that shard. False: there was none. */
bool shard_deliver(struct shard *s, int32_t from);
