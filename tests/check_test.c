/* SPDX-License-Identifier: MIT
 *
 * credstore_check() and credstore_repair_indexes(): a sound store has no finding; each sort of
 * damage, planted behind the store's back in a store with something in every table, is one finding
 * at its place, and nothing else is; and what can be derived is mended, until the check is clean
 * again. CREDSTORE_LONG: the sound store has 100,000 records.
 */
#include "populated.h"

#include <time.h>
#include <unistd.h>

#include "alias.h"
#include "check.h"
#include "commit.h"
#include "place.h"
#include "ring.h"
#include "sealed.h"

enum { FOUND_MAX = 16, TEXT = 64, MANY = 2000, MANY_LONG = 100000 };

/* ---- running a check ---- */

typedef struct found {
    size_t count;
    struct one {
        uint32_t kind;
        int32_t status;
        uint64_t revision, seq;
        char table[TEXT], tenant[TEXT], id[TEXT], field[TEXT], message[176],
            key[2 * CS_KEY_MAX + 1];
    } one[FOUND_MAX];
    size_t progressed;
    uint64_t seen, estimated;
    uint32_t stop_finding, stop_progress;
} found;

static uint32_t note_finding(void *ctx, const credstore_finding *finding)
{
    found *f = ctx;
    struct one *one = &f->one[f->count < FOUND_MAX ? f->count : FOUND_MAX - 1];

    assert_int_equal(finding->struct_size, sizeof *finding);
    f->count++;
    one->kind = finding->kind;
    one->status = finding->status;
    one->revision = finding->revision;
    one->seq = finding->seq;
    snprintf(one->table, TEXT, "%s", finding->table);
    snprintf(one->tenant, TEXT, "%s", finding->tenant);
    snprintf(one->id, TEXT, "%s", finding->id);
    snprintf(one->field, TEXT, "%s", finding->field);
    snprintf(one->message, sizeof one->message, "%s", finding->message);
    snprintf(one->key, sizeof one->key, "%s", finding->key);
    assert_true(one->message[0] != '\0' && one->key[0] != '\0');
    return f->stop_finding;
}

static uint32_t note_progress(void *ctx, uint64_t seen, uint64_t estimated)
{
    found *f = ctx;

    assert_true(seen <= estimated && seen >= f->seen);
    f->progressed++;
    f->seen = seen;
    f->estimated = estimated;
    return f->stop_progress;
}

static credstore_check_result run_check(populated *p, found *f)
{
    const credstore_check_options options = {.struct_size = sizeof options,
                                             .finding = note_finding,
                                             .progress = note_progress,
                                             .ctx = f};
    credstore_check_result result = {.struct_size = sizeof result};
    credstore_error err;

    f->count = 0;
    f->seen = 0;
    f->progressed = 0;
    life_ok(credstore_check(p->w.t.store, &p->w.call, &options, &result, &err));
    assert_int_equal(result.findings, f->count);
    return result;
}

static void print_found(const char *name, const found *f)
{
    print_error("%s: %zu findings\n", name, f->count);
    for (size_t i = 0; i < f->count && i < FOUND_MAX; i++)
        print_error("  %s kind %u id %s/%s field %s revision %d seq %d %s: %s\n", f->one[i].table,
                    f->one[i].kind, f->one[i].tenant, f->one[i].id, f->one[i].field,
                    (int)f->one[i].revision, (int)f->one[i].seq,
                    credstore_status_name(f->one[i].status), f->one[i].message);
}

/* ---- the worlds, and what they were ---- */

typedef struct scene {
    populated *p;
    pop_pairs *before;
    uint64_t generation;
    int64_t time;
} scene;

static scene scenes[TEST_ENGINES][2]; /* not pruned, pruned */

static void begin_scene(scene *s, test_engine engine, bool pruned)
{
    s->p = pop_open(engine, pruned);
    s->before = pop_dump(s->p->w.t.store);
    s->generation = atomic_load(&s->p->w.t.store->seen_generation);
    s->time = atomic_load(&s->p->w.t.store->seen_time);
}

/* Puts everything back in one transaction, and the store's memory of it too. */
static void restore(scene *s)
{
    credstore *store = s->p->w.t.store;
    pop_pairs *now = pop_dump(store);
    void *txn = life_raw_begin(store, 1);

    for (size_t i = 0; i < now->count; i++)
        assert_int_equal(
            store->storage->del(store->storage_ctx, txn, cs_key_bytes(&now->pair[i].key)),
            CREDSTORE_STORAGE_OK);
    for (size_t i = 0; i < s->before->count; i++)
        assert_int_equal(
            store->storage->put(store->storage_ctx, txn, cs_key_bytes(&s->before->pair[i].key),
                                cs_bytes(s->before->pair[i].value, s->before->pair[i].len)),
            CREDSTORE_STORAGE_OK);
    assert_int_equal(store->storage->commit(store->storage_ctx, txn), CREDSTORE_STORAGE_OK);
    atomic_store(&store->seen_generation, s->generation);
    atomic_store(&store->seen_time, s->time);
    pop_pairs_free(now);
}

static int set_up(void **state)
{
    (void)state;
    setenv("TMPDIR", test_quick_base(), 1);
    for (test_engine e = 0; e < TEST_ENGINES; e++)
        for (int pruned = 0; pruned < 2; pruned++)
            begin_scene(&scenes[e][pruned], e, pruned != 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++)
        for (int pruned = 0; pruned < 2; pruned++) {
            pop_pairs_free(scenes[e][pruned].before);
            pop_close(scenes[e][pruned].p);
        }
    return 0;
}

/* ---- finding the victim ---- */

/* The nth key of a table of which `has` is a part (NULL: any). */
static cs_key key_of(const scene *s, uint8_t table, credstore_bytes has, size_t nth)
{
    static const cs_key none = {0};

    for (size_t i = 0; i < s->before->count; i++) {
        const cs_key *key = &s->before->pair[i].key;
        bool in = has.len == 0;

        for (size_t at = 1; !in && at + has.len <= key->len; at++)
            in = memcmp(key->ptr + at, has.ptr, has.len) == 0;
        if (key->ptr[0] == table && in && nth-- == 0)
            return *key;
    }
    fail_msg("the key that the test needs is not there");
    return none;
}

static cs_key key_of_id(const scene *s, uint8_t table, pop_name n)
{
    return key_of(s, table, cs_bytes_of(pop_at(s->p, n).id), 0);
}

static cs_key record_key(const scene *s, pop_name n)
{
    cs_key key;

    cs_key_record(&key, &s->p->ops[n].at);
    return key;
}

static cs_key history_key(const scene *s, pop_name n, uint64_t revision)
{
    cs_key key;

    cs_key_history(&key, &s->p->ops[n].at, revision);
    return key;
}

static cs_key audit_key(uint64_t seq)
{
    cs_key key;

    cs_key_audit(&key, 0, seq);
    return key;
}

static uint64_t last_seq(const scene *s)
{
    cs_head head;
    bool has = false;
    credstore_error err = {0};
    cs_txn txn;

    life_ok(cs_txn_read(s->p->w.t.store, &txn, &err));
    life_ok(cs_head_read(&txn, &head, &has, &err));
    cs_txn_end(&txn);
    return head.last_seq;
}

static credstore *store_of(const scene *s)
{
    return s->p->w.t.store;
}

static cs_buf get(const scene *s, const cs_key *key)
{
    cs_buf value = life_raw_get(store_of(s), key);

    assert_true(value.len > 0);
    return value;
}

static void put(const scene *s, const cs_key *key, const cs_buf *value)
{
    life_raw_put(store_of(s), key, cs_bytes(value->ptr, value->len));
}

static void lose(const scene *s, cs_key key)
{
    life_raw_del(store_of(s), &key);
}

static void flip(const scene *s, cs_key key, size_t from_end)
{
    life_damage(store_of(s), &key, from_end);
}

static void flip_at(const scene *s, cs_key key, size_t at)
{
    cs_buf value = get(s, &key);

    assert_true(at < value.len);
    value.ptr[at] ^= 1;
    put(s, &key, &value);
    cs_buf_free(&value);
}

static void swap(const scene *s, cs_key a, cs_key b)
{
    cs_buf value_a = get(s, &a), value_b = get(s, &b);

    put(s, &a, &value_b);
    put(s, &b, &value_a);
    cs_buf_free(&value_a);
    cs_buf_free(&value_b);
}

/* A sealed entry where none belongs, as a defect would leave it. */
typedef struct planting {
    cs_key key;
    credstore_bytes plain;
} planting;

static credstore_status plant_entry(cs_txn *txn, void *arg, credstore_error *err)
{
    const planting *p = arg;
    cs_place place;

    assert_true(cs_place_of(cs_key_bytes(&p->key), cs_bytes("", 0), &place));
    return cs_txn_put_sealed(txn, &p->key, &place.label, p->plain, err);
}

static void plant(const scene *s, cs_key key, credstore_bytes plain)
{
    planting p = {key, plain};
    const cs_work work = {plant_entry, &p, 0};
    credstore_error err = {0};

    life_ok(cs_txn_write(store_of(s), &work, &err));
}

static const char ghost_id[] = "0ujtsYcgvSTl8PAuAdqWYSMnLOv";

static cs_locator ghost(uint8_t kind)
{
    const cs_locator at = {.kind = kind, .id = cs_bytes_of(ghost_id)};

    return at;
}

/* ---- the damages ---- */

/* Records. */
static void body_bit(const scene *s)
{
    flip_at(s, record_key(s, POP_BOOK), 12 + 8 + CS_NONCE_LEN + CS_TAG_LEN + 3);
}
static void frame_bit(const scene *s) /* the revision in the clear */
{
    flip_at(s, record_key(s, POP_KEY), 11);
}
static void role_byte(const scene *s)
{
    flip_at(s, record_key(s, POP_KEY), 1);
}
static void part_bit(const scene *s)
{
    flip(s, record_key(s, POP_BOOK), 0);
}
static void part_of_another(const scene *s)
{
    cs_key key = record_key(s, POP_BOOK), other = record_key(s, POP_BOOK_2);
    cs_buf value = get(s, &key), from = get(s, &other);
    cs_frame a, b;

    assert_int_equal(cs_frame_read(cs_bytes(value.ptr, value.len), CS_ROLE_CURRENT, &a, NULL),
                     CREDSTORE_OK);
    assert_int_equal(cs_frame_read(cs_bytes(from.ptr, from.len), CS_ROLE_CURRENT, &b, NULL),
                     CREDSTORE_OK);
    assert_int_equal(a.parts[0].whole.len, b.parts[0].whole.len);
    memcpy(value.ptr + value.len - a.parts[0].whole.len, b.parts[0].whole.ptr,
           b.parts[0].whole.len);
    put(s, &key, &value);
    cs_buf_free(&value);
    cs_buf_free(&from);
}
static void swapped_records(const scene *s)
{
    swap(s, record_key(s, POP_BOOK), record_key(s, POP_BOOK_2));
}

/* The record of one change ago: its last history entry's bytes, under the role that it had. */
static cs_buf earlier_bytes(const scene *s, pop_name n, uint64_t revision)
{
    const cs_kind *kind = pop_kind(n)->kind;
    const cs_locator *at = &s->p->ops[n].at;
    const cs_label label = cs_record_label(CS_ROLE_CURRENT, at, 0, revision);
    cs_loaded then = {0};
    cs_buf value = {0};
    credstore_error err = {0};
    uint16_t parts = 0;
    uint8_t nonce[CS_NONCE_LEN] = {7};
    cs_txn txn;

    life_ok(cs_txn_read(store_of(s), &txn, &err));
    life_ok(cs_load(&txn, kind, at, revision, &then, &err));
    assert_true(then.found);
    for (size_t i = 0; i < kind->field_count; i++)
        parts = (uint16_t)(parts +
                           (kind->fields[i].type == CS_SECRET && then.record.values[i].present));
    cs_frame_begin(&value, CS_ROLE_CURRENT, parts, revision);
    life_ok(cs_seal(&store_of(s)->sealer,
                    cs_keyring_active(cs_store_ring(store_of(s)), CS_PURPOSE_BODY), &label, nonce,
                    cs_bytes(then.plain.ptr, then.plain.len), &value, NULL, &err));
    for (size_t i = 0; i < kind->field_count; i++) {
        cs_part part;

        if (kind->fields[i].type != CS_SECRET || !then.record.values[i].present)
            continue;
        life_ok(cs_load_part(&txn, kind, at, &then, i, &part, &err));
        cs_buf_add(&value, part.whole.ptr, part.whole.len);
    }
    cs_loaded_free(&then);
    cs_txn_end(&txn);
    return value;
}
/* Another secret than the one that was set, sealed where it belongs, its tag in the body: only its
   fingerprint tells. */
static void another_secret(const scene *s)
{
    const cs_kind *kind = pop_kind(POP_BOOK)->kind;
    const cs_locator *at = &s->p->ops[POP_BOOK].at;
    const cs_keyring *ring = cs_store_ring(store_of(s));
    const cs_key key = record_key(s, POP_BOOK);
    const uint8_t nonces[2][CS_NONCE_LEN] = {{1}, {2}};
    cs_buf parts = {0}, body = {0}, value = {0};
    cs_loaded now = {0};
    credstore_error err = {0};
    cs_value *secret;
    cs_label label;
    cs_txn txn;

    life_ok(cs_txn_read(store_of(s), &txn, &err));
    life_ok(cs_load(&txn, kind, at, 0, &now, &err));
    secret = &now.record.values[cs_field_index(kind, CREDSTORE_CHECKBOOK_SECRET_KEY)];
    label =
        cs_record_label(CS_ROLE_PART, at, CREDSTORE_CHECKBOOK_SECRET_KEY, secret->part_revision);
    cs_part_begin(&parts, CREDSTORE_CHECKBOOK_SECRET_KEY, secret->part_revision);
    life_ok(cs_seal(&store_of(s)->sealer, cs_keyring_active(ring, CS_PURPOSE_SECRET), &label,
                    nonces[0], cs_bytes_of("planted"), &parts, secret->part_tag, &err));
    cs_record_encode(kind, &now.record, &body);
    label = cs_record_label(CS_ROLE_CURRENT, at, 0, now.record.revision);
    cs_frame_begin(&value, CS_ROLE_CURRENT, 1, now.record.revision);
    life_ok(cs_seal(&store_of(s)->sealer, cs_keyring_active(ring, CS_PURPOSE_BODY), &label,
                    nonces[1], cs_bytes(body.ptr, body.len), &value, NULL, &err));
    cs_buf_add(&value, parts.ptr, parts.len);
    cs_loaded_free(&now);
    cs_txn_end(&txn);
    put(s, &key, &value);
    cs_buf_free(&parts);
    cs_buf_free(&body);
    cs_buf_free(&value);
}

static void put_back(const scene *s)
{
    const cs_key key = record_key(s, POP_BOOK);
    cs_buf value = earlier_bytes(s, POP_BOOK, 3);

    put(s, &key, &value);
    cs_buf_free(&value);
}
static void put_back_with_history(const scene *s)
{
    put_back(s);
    lose(s, history_key(s, POP_BOOK, 3));
}
static void put_back_two(const scene *s)
{
    const cs_key key = record_key(s, POP_BOOK);
    cs_buf value = earlier_bytes(s, POP_BOOK, 2);

    put(s, &key, &value);
    cs_buf_free(&value);
}
static void back_to_life(const scene *s)
{
    const cs_key key = record_key(s, POP_REMOVED);

    put(s, &key, &s->p->removed);
}
static void lost_record(const scene *s)
{
    lose(s, record_key(s, POP_BOOK));
    lose(s, key_of_id(s, CS_TABLE_OWNER, POP_BOOK));
}
static void lost_without_trace(const scene *s)
{
    lost_record(s);
    for (uint64_t r = 1; r <= 3; r++)
        lose(s, history_key(s, POP_BOOK, r));
}
static void record_key_longer(const scene *s)
{
    cs_key key = record_key(s, POP_BOOK);
    cs_buf value = get(s, &key);

    key.ptr[key.len++] = 'x';
    put(s, &key, &value);
    cs_buf_free(&value);
}

/* History. */
static void history_lost(const scene *s)
{
    lose(s, history_key(s, POP_KEY, 2));
}
static void history_bit(const scene *s)
{
    flip_at(s, history_key(s, POP_BOOK, 2), 12 + 8 + CS_NONCE_LEN + CS_TAG_LEN + 3);
}
static void history_misplaced(const scene *s) /* a revision's value where the one before was */
{
    const cs_key key = history_key(s, POP_BOOK, 2), next = history_key(s, POP_BOOK, 3);
    cs_buf value = get(s, &next);

    put(s, &key, &value);
    cs_buf_free(&value);
}
static void history_part_bit(const scene *s)
{
    flip(s, history_key(s, POP_BOOK, 2), 0);
}
static void history_part_lost(const scene *s)
{
    const cs_key key = history_key(s, POP_BOOK, 2);
    cs_buf value = get(s, &key);
    cs_frame frame;

    assert_int_equal(cs_frame_read(cs_bytes(value.ptr, value.len), CS_ROLE_HISTORY, &frame, NULL),
                     CREDSTORE_OK);
    assert_int_equal(frame.part_count, 1);
    value.len -= frame.parts[0].whole.len;
    cs_put_u16(value.ptr + 2, 0);
    put(s, &key, &value);
    cs_buf_free(&value);
}

/* Owner index. */
static void owner_lost(const scene *s)
{
    lose(s, key_of_id(s, CS_TABLE_OWNER, POP_BOOK));
}
static void owner_nowhere(const scene *s)
{
    const cs_locator at = ghost(CREDSTORE_KIND_CHECKBOOK);
    const cs_key real = key_of_id(s, CS_TABLE_OWNER, POP_BOOK);
    cs_key key;

    cs_key_owner(&key, real.ptr + 2, &at);
    plant(s, key, cs_bytes("", 0));
}
static void owner_bit(const scene *s)
{
    flip(s, key_of_id(s, CS_TABLE_OWNER, POP_BOOK), 0);
}
static void owner_of_another(const scene *s)
{
    uint8_t mac[CS_SCOPE_LEN] = {1, 2, 3};
    cs_key key;

    cs_key_owner(&key, mac, &s->p->ops[POP_BOOK].at);
    plant(s, key, cs_bytes("", 0));
}
static void owner_of_removed(const scene *s)
{
    put(s, &s->p->removed_key, &s->p->removed_entry);
}
static void owner_key_shorter(const scene *s)
{
    cs_key key = key_of_id(s, CS_TABLE_OWNER, POP_BOOK);
    cs_buf value = get(s, &key);

    key.len--;
    put(s, &key, &value);
    cs_buf_free(&value);
}

/* The audit: sequence 8 is in the one that is not pruned, somewhere in the middle. */
enum { MIDDLE = 8 };
static void audit_lost(const scene *s)
{
    lose(s, audit_key(MIDDLE));
}
static void audit_three_lost(const scene *s)
{
    for (uint64_t seq = MIDDLE; seq < MIDDLE + 3; seq++)
        lose(s, audit_key(seq));
}
static void audit_last_lost(const scene *s)
{
    lose(s, audit_key(last_seq(s)));
}
static void audit_bit(const scene *s)
{
    flip(s, audit_key(MIDDLE), 2);
}
static void audit_swapped(const scene *s)
{
    swap(s, audit_key(MIDDLE), audit_key(MIDDLE + 1));
}
/* Sealed as it must be, and yet not what was there. */
static void audit_forged(const scene *s)
{
    uint8_t plain[CS_CHAIN_LEN];
    const cs_label label = {.role = CS_ROLE_AUDIT, .revision = MIDDLE};
    uint8_t nonce[CS_NONCE_LEN] = {9};
    const cs_key key = audit_key(MIDDLE);
    cs_buf value = {0}, real = {0};
    credstore_error err = {0};
    cs_txn txn;

    life_ok(cs_txn_read(store_of(s), &txn, &err));
    life_ok(cs_audit_open(&txn, MIDDLE, &real, &err));
    memcpy(plain, real.ptr, CS_CHAIN_LEN);
    cs_txn_end(&txn);
    cs_buf_free(&real);
    life_ok(cs_seal_value(&store_of(s)->sealer,
                          cs_keyring_active(cs_store_ring(store_of(s)), CS_PURPOSE_BODY), &label,
                          nonce, cs_bytes(plain, CS_CHAIN_LEN), &value, &err));
    put(s, &key, &value);
    cs_buf_free(&value);
}
static void head_put_back(const scene *s)
{
    credstore_error err;
    cs_buf value;
    cs_key key;

    cs_key_head(&key, 0);
    value = get(s, &key);
    life_ok(credstore_organization_label(store_of(s), &s->p->w.call, "acme", "label-2", &err));
    put(s, &key, &value);
    cs_buf_free(&value);
}
static void head_lost(const scene *s)
{
    cs_key key;

    cs_key_head(&key, 0);
    lose(s, key);
}
static void head_bit(const scene *s)
{
    cs_key key;

    cs_key_head(&key, 0);
    flip(s, key, 0);
}
static void anchor_bit(const scene *s)
{
    cs_key key;

    cs_key_anchor(&key, 0);
    flip(s, key, 0);
}
static void anchor_lost(const scene *s)
{
    cs_key key;

    cs_key_anchor(&key, 0);
    lose(s, key);
}
/* The change is there, and the audit has forgotten it: entry and head as they were before. */
static void audit_forgets(const scene *s)
{
    cs_buf value;
    cs_key key;
    const uint64_t seq = last_seq(s);

    cs_key_head(&key, 0);
    value = get(s, &key);
    pop_update(s->p, POP_KEY, 5);
    lose(s, audit_key(seq + 1));
    put(s, &key, &value);
    atomic_store(&store_of(s)->seen_generation, s->generation);
    cs_buf_free(&value);
}
static void clock_bit(const scene *s)
{
    cs_key key;

    cs_key_clock(&key, 0);
    flip(s, key, 0);
}

/* Beside the records. */
static void receipt_bit(const scene *s)
{
    flip_at(s, key_of(s, CS_TABLE_RECEIPT, cs_bytes("", 0), 0),
            1 + 8 + CS_NONCE_LEN + CS_TAG_LEN + 1);
}
static void receipt_token_bit(const scene *s)
{
    flip(s, key_of(s, CS_TABLE_RECEIPT, cs_bytes("", 0), 0), 0);
}
static void usage_bit(const scene *s)
{
    flip(s, key_of_id(s, CS_TABLE_USAGE, POP_USED), 0);
}
static void purge_bit(const scene *s)
{
    flip(s, key_of_id(s, CS_TABLE_PURGE, POP_REMOVED), 0);
}
static void purge_lost(const scene *s)
{
    lose(s, key_of_id(s, CS_TABLE_PURGE, POP_REMOVED));
}
static void purge_of_living(const scene *s)
{
    cs_key key;

    cs_key_purge(&key, 5, &s->p->ops[POP_BOOK].at);
    plant(s, key, cs_bytes("", 0));
}
static void end_lost(const scene *s)
{
    lose(s, key_of_id(s, CS_TABLE_END, POP_STRIPE));
}
static void end_bit(const scene *s)
{
    flip(s, key_of_id(s, CS_TABLE_END, POP_STRIPE), 0);
}
static void end_nowhere(const scene *s)
{
    const cs_locator at = ghost(CREDSTORE_KIND_CHECKBOOK);
    cs_key key;

    cs_key_end(&key, TEST_NOW, &at);
    plant(s, key, cs_bytes("", 0));
}
static cs_key alias_key(const scene *s, const char *name)
{
    uint8_t mac[32];
    credstore_error err = {0};
    cs_key key;

    life_ok(cs_alias_key(store_of(s), name, &key, mac, &err));
    return key;
}
static void alias_lost(const scene *s)
{
    lose(s, alias_key(s, "other"));
}
static void labelled_alias_lost(const scene *s)
{
    lose(s, alias_key(s, "acme"));
}
static void alias_bit(const scene *s)
{
    flip(s, alias_key(s, "other"), 0);
}
static void label_lost(const scene *s)
{
    lose(s, alias_key(s, POP_LABEL));
}
static void label_bit(const scene *s)
{
    flip(s, alias_key(s, POP_LABEL), 0);
}
static void label_nowhere(const scene *s)
{
    plant(s, alias_key(s, "no-such-label"), cs_bytes("other\0", 6));
}
static void fingerprint_lost(const scene *s)
{
    lose(s, key_of_id(s, CS_TABLE_FINGERPRINT, POP_BOOK));
}
static void fingerprint_bit(const scene *s)
{
    flip(s, key_of_id(s, CS_TABLE_FINGERPRINT, POP_BOOK), 0);
}
static void fingerprint_nowhere(const scene *s)
{
    const cs_locator at = ghost(CREDSTORE_KIND_CHECKBOOK);
    const uint8_t mac[CS_FINGERPRINT_LEN] = {1};
    cs_key key;

    cs_key_fingerprint(&key, mac, &at, CREDSTORE_CHECKBOOK_SECRET_KEY, 1);
    plant(s, key, cs_bytes("", 0));
}
static void fingerprint_of_no_secret(const scene *s)
{
    const uint8_t mac[CS_FINGERPRINT_LEN] = {1};
    cs_key key;

    cs_key_fingerprint(&key, mac, &s->p->ops[POP_BOOK].at, CREDSTORE_CHECKBOOK_SECRET_KEY, 2);
    plant(s, key, cs_bytes("", 0));
}
static void digest_lost(const scene *s)
{
    lose(s, key_of(s, CS_TABLE_DIGEST, cs_bytes("", 0), 0));
}
static void digest_bit(const scene *s)
{
    flip(s, key_of(s, CS_TABLE_DIGEST, cs_bytes("", 0), 0), 0);
}
static void digest_nowhere(const scene *s)
{
    const cs_locator at = ghost(CREDSTORE_KIND_API_KEY);
    const uint8_t mac[CS_SCOPE_LEN] = {1};
    uint8_t plain[CS_REFERENCE_MAX];
    cs_key key;

    cs_key_digest(&key, mac);
    plant(s, key, cs_bytes(plain, cs_reference_write(&at, plain)));
}
static void digest_of_none(const scene *s)
{
    const uint8_t mac[CS_SCOPE_LEN] = {1};
    uint8_t plain[CS_REFERENCE_MAX];
    cs_key key;

    cs_key_digest(&key, mac);
    plant(s, key, cs_bytes(plain, cs_reference_write(&s->p->ops[POP_KEY].at, plain)));
}
static void token_lost(const scene *s)
{
    lose(s, key_of(s, CS_TABLE_TOKEN, cs_bytes("", 0), 0));
}
static void token_bit(const scene *s)
{
    flip(s, key_of(s, CS_TABLE_TOKEN, cs_bytes("", 0), 0), 0);
}

/* What the store stands on. */
static void catalogue_bit(const scene *s)
{
    cs_key key;

    cs_key_catalogue(&key);
    flip(s, key, 0);
}
static void catalogue_lost(const scene *s)
{
    cs_key key;

    cs_key_catalogue(&key);
    lose(s, key);
}
static void header_bit(const scene *s)
{
    cs_key key;

    cs_key_meta(&key, false);
    flip(s, key, 0);
}
static void sealed_header_bit(const scene *s)
{
    cs_key key;

    cs_key_meta(&key, true);
    flip(s, key, 0);
}
static void sealed_header_lost(const scene *s)
{
    cs_key key;

    cs_key_meta(&key, true);
    lose(s, key);
}
static void root_cut(const scene *s)
{
    cs_buf value;
    cs_key key;

    cs_key_root(&key, 0);
    value = get(s, &key);
    value.len--;
    put(s, &key, &value);
    cs_buf_free(&value);
}
static void root_lost(const scene *s)
{
    cs_key key;

    cs_key_root(&key, 0);
    lose(s, key);
}
static void ring_body_bit(const scene *s)
{
    cs_key key;

    cs_key_keyring(&key, CS_PURPOSE_BODY);
    flip(s, key, 0);
}
static void ring_secret_bit(const scene *s)
{
    cs_key key;

    cs_key_keyring(&key, CS_PURPOSE_SECRET);
    flip(s, key, 0);
}
static void ring_lost(const scene *s)
{
    cs_key key;

    cs_key_keyring(&key, CS_PURPOSE_SECRET);
    lose(s, key);
}
static void unknown_table(const scene *s)
{
    const cs_key key = {3, {0x77, 1, 2}};

    life_raw_put(store_of(s), &key, cs_bytes("value", 5));
}
static void unknown_lane(const scene *s)
{
    const cs_key from = audit_key(last_seq(s));
    cs_key key = from;
    cs_buf value = get(s, &from);

    key.ptr[2] = 1;
    put(s, &key, &value);
    cs_buf_free(&value);
}

/* ---- what each is found as ---- */

enum { ANY = -1, NOT_A_RECORD = POP_RECORDS, GHOST };

typedef struct sight {
    const char *table;
    int record;        /* pop_name, NOT_A_RECORD, GHOST */
    const char *field; /* NULL: "" */
    int revision, seq; /* ANY; 0 = none */
    credstore_status status;
} sight;

typedef struct damage {
    const char *name;
    void (*plant)(const scene *s);
    int pruned; /* ANY: in both */
    bool mends;
    sight sights[2]; /* the second without a table: there is one */
} damage;

#define AT(table, record, revision)                                                                \
    {                                                                                              \
        {                                                                                          \
            table, record, NULL, revision, 0, CREDSTORE_E_INTEGRITY                                \
        }                                                                                          \
    }
#define IN(table) AT(table, NOT_A_RECORD, 0)
#define FIELD(table, record, field, revision)                                                      \
    {                                                                                              \
        {                                                                                          \
            table, record, field, revision, 0, CREDSTORE_E_INTEGRITY                               \
        }                                                                                          \
    }
#define AUDIT(seq)                                                                                 \
    {                                                                                              \
        {                                                                                          \
            "audit", NOT_A_RECORD, NULL, 0, seq, CREDSTORE_E_INTEGRITY                             \
        }                                                                                          \
    }
#define OLD(record, revision, seq)                                                                 \
    {                                                                                              \
        {                                                                                          \
            "record", record, NULL, revision, seq, CREDSTORE_E_ROLLBACK                            \
        }                                                                                          \
    }

static const damage damages[] = {
    {"a bit in a body", body_bit, ANY, false, AT("record", POP_BOOK, 4)},
    {"a bit in a record's revision", frame_bit, ANY, false, AT("record", POP_KEY, 5)},
    {"a record's role", role_byte, ANY, false, AT("record", POP_KEY, ANY)},
    {"a bit in a secret", part_bit, ANY, false, FIELD("record", POP_BOOK, "secret_key", 4)},
    {"another record's secret", part_of_another, ANY, false,
     FIELD("record", POP_BOOK, "secret_key", 4)},
    {"another secret in its place", another_secret, ANY, false,
     FIELD("record", POP_BOOK, "secret_key", 4)},
    {"two records swapped",
     swapped_records,
     ANY,
     false,
     {{"record", POP_BOOK, NULL, ANY, 0, CREDSTORE_E_INTEGRITY},
      {"record", POP_BOOK_2, NULL, ANY, 0, CREDSTORE_E_INTEGRITY}}},
    {"a record put back", put_back, 0, false, OLD(POP_BOOK, 3, ANY)},
    {"a record put back, its audit pruned", put_back, 1, false, OLD(POP_BOOK, 3, 0)},
    {"a record put back by two", put_back_two, ANY, false, OLD(POP_BOOK, 2, ANY)},
    {"a record and its history put back", put_back_with_history, 0, false, OLD(POP_BOOK, 3, ANY)},
    {"a removed record back to life", back_to_life, ANY, false, OLD(POP_REMOVED, 3, ANY)},
    {"a record lost with its index",
     lost_record,
     0,
     false,
     {{"record", POP_BOOK, NULL, 0, ANY, CREDSTORE_E_INTEGRITY}}},
    {"the same, its audit pruned",
     lost_record,
     1,
     false,
     {{"record", POP_BOOK, NULL, 1, 0, CREDSTORE_E_INTEGRITY}}},
    {"a record lost with index and history",
     lost_without_trace,
     0,
     false,
     {{"record", POP_BOOK, NULL, 0, ANY, CREDSTORE_E_INTEGRITY}}},
    {"a record's key with a byte more", record_key_longer, ANY, false, AT("record", POP_BOOK, ANY)},

    {"a revision lost in the middle", history_lost, ANY, false, AT("record", POP_KEY, 2)},
    {"a bit in history", history_bit, ANY, false, AT("record", POP_BOOK, 2)},
    {"a revision's value in another's place", history_misplaced, ANY, false,
     AT("record", POP_BOOK, 2)},
    {"a bit in a secret in history", history_part_bit, ANY, false,
     FIELD("record", POP_BOOK, "secret_key", 2)},
    {"a secret lost from history", history_part_lost, ANY, false,
     FIELD("record", POP_BOOK, "secret_key", 2)},

    {"a list's entry lost", owner_lost, ANY, true, AT("owner index", POP_BOOK, 4)},
    {"a list's entry of no record", owner_nowhere, ANY, true, AT("owner index", GHOST, 0)},
    {"a bit in a list's entry", owner_bit, ANY, true, AT("owner index", POP_BOOK, 0)},
    {"an entry in another owner's list", owner_of_another, ANY, true,
     AT("owner index", POP_BOOK, 0)},
    {"the list's entry of a removed record", owner_of_removed, ANY, true,
     AT("owner index", POP_REMOVED, 0)},
    {"an entry's key cut short",
     owner_key_shorter,
     ANY,
     false,
     {{"owner index", ANY, NULL, 0, 0, CREDSTORE_E_INTEGRITY}}},

    {"an audit entry lost", audit_lost, 0, false, AUDIT(MIDDLE)},
    {"three audit entries lost", audit_three_lost, 0, false, AUDIT(MIDDLE)},
    {"the last audit entry lost", audit_last_lost, ANY, false, AUDIT(ANY)},
    {"an audit entry changed", audit_bit, 0, false, AUDIT(MIDDLE)},
    {"two audit entries swapped",
     audit_swapped,
     0,
     false,
     {{"audit", NOT_A_RECORD, NULL, 0, MIDDLE, CREDSTORE_E_INTEGRITY},
      {"audit", NOT_A_RECORD, NULL, 0, MIDDLE + 1, CREDSTORE_E_INTEGRITY}}},
    {"an audit entry replaced", audit_forged, 0, false, AUDIT(MIDDLE)},
    {"the head put back",
     head_put_back,
     ANY,
     false,
     {{"head", NOT_A_RECORD, NULL, 0, ANY, CREDSTORE_E_ROLLBACK}}},
    {"the head lost", head_lost, ANY, false, IN("head")},
    {"a bit in the head", head_bit, ANY, false, IN("head")},
    {"a bit in the anchor", anchor_bit, 1, false, IN("anchor")},
    {"the anchor lost", anchor_lost, 1, false, AUDIT(1)},
    {"a change that the audit forgot", audit_forgets, 0, false, OLD(POP_KEY, 5, 0)},
    {"a bit in the believed time", clock_bit, ANY, false, IN("believed time")},

    {"a bit in a receipt", receipt_bit, ANY, false, IN("receipt")},
    {"a bit in a receipt's token", receipt_token_bit, ANY, false,
     FIELD("receipt", NOT_A_RECORD, "token", 0)},
    {"a bit in a used mark", usage_bit, ANY, false, AT("last used", POP_USED, 0)},
    {"a bit in the purge queue", purge_bit, ANY, true, AT("purge queue", POP_REMOVED, 0)},
    {"a purge entry lost", purge_lost, ANY, true, AT("purge queue", POP_REMOVED, 4)},
    {"a purge entry of a living record", purge_of_living, ANY, true,
     AT("purge queue", POP_BOOK, 0)},
    {"an end lost", end_lost, ANY, true, AT("queue of ends", POP_STRIPE, 5)},
    {"a bit in the queue of ends", end_bit, ANY, true, AT("queue of ends", POP_STRIPE, 0)},
    {"an end of no record", end_nowhere, ANY, true, AT("queue of ends", GHOST, 0)},
    {"an organization lost", alias_lost, ANY, true, AT("organization", POP_OTHER, 1)},
    {"a labelled organization lost",
     labelled_alias_lost,
     ANY,
     true,
     {{"organization", ANY, NULL, 1, 0, CREDSTORE_E_INTEGRITY}}},
    {"a bit in an organization", alias_bit, ANY, true, IN("organization")},
    {"a label lost", label_lost, ANY, true, IN("organization")},
    {"a bit in a label", label_bit, ANY, true, IN("organization")},
    {"a label that nobody has", label_nowhere, ANY, true, IN("organization")},
    {"a fingerprint lost",
     fingerprint_lost,
     ANY,
     true,
     {{"fingerprint index", POP_BOOK, NULL, ANY, 0, CREDSTORE_E_INTEGRITY}}},
    {"a bit in a fingerprint's entry",
     fingerprint_bit,
     ANY,
     true,
     {{"fingerprint index", POP_BOOK, "secret_key", ANY, 0, CREDSTORE_E_INTEGRITY}}},
    {"a fingerprint of no record", fingerprint_nowhere, ANY, true,
     FIELD("fingerprint index", GHOST, "secret_key", 1)},
    {"a fingerprint of no secret", fingerprint_of_no_secret, ANY, true,
     FIELD("fingerprint index", POP_BOOK, "secret_key", 2)},
    {"an imported token's entry lost", digest_lost, ANY, true, AT("digest index", POP_IMPORTED, 1)},
    {"a bit in an imported token's entry", digest_bit, ANY, true, IN("digest index")},
    {"an imported token of no record", digest_nowhere, ANY, true, AT("digest index", GHOST, 0)},
    {"an imported token that was not", digest_of_none, ANY, false, AT("digest index", POP_KEY, 0)},
    {"a token's entry lost", token_lost, ANY, true, AT("token index", POP_ISSUED, 1)},
    {"a bit in a token's entry", token_bit, ANY, true, IN("token index")},

    {"a bit in the catalogue", catalogue_bit, ANY, false, IN("catalogue")},
    {"the catalogue lost", catalogue_lost, ANY, false, IN("catalogue")},
    {"a bit in the header", header_bit, ANY, false, IN("header")},
    {"a bit in the sealed header", sealed_header_bit, ANY, false, IN("header")},
    {"the sealed header lost", sealed_header_lost, ANY, false, IN("header")},
    {"a root slot cut short", root_cut, ANY, false, IN("root slot")},
    {"the root slot lost", root_lost, ANY, false, IN("root slot")},
    {"a bit in the keyring", ring_body_bit, ANY, false, IN("keyring")},
    {"a bit in the keyring's secret half", ring_secret_bit, ANY, false, IN("keyring")},
    {"half of the keyring lost", ring_lost, ANY, false, IN("keyring")},
    {"a key of no table", unknown_table, ANY, false, IN("unknown")},
    {"a lane that there is not",
     unknown_lane,
     ANY,
     false,
     {{"audit", NOT_A_RECORD, NULL, 0, ANY, CREDSTORE_E_INTEGRITY}}},
};

static bool same_text(const char *a, const char *b)
{
    return strcmp(a == NULL ? "" : a, b) == 0;
}

static bool fits(const scene *s, const sight *want, const struct one *one)
{
    const char *id = "";

    if (want->record == GHOST)
        id = ghost_id;
    else if (want->record >= 0 && want->record < POP_RECORDS)
        id = pop_at(s->p, (pop_name)want->record).id;
    return strcmp(want->table, one->table) == 0 &&
           (want->record == ANY || strcmp(id, one->id) == 0) &&
           same_text(want->field, one->field) &&
           (want->revision == ANY || (uint64_t)want->revision == one->revision) &&
           (want->seq == ANY || (uint64_t)want->seq == one->seq) &&
           (int32_t)want->status == one->status &&
           (want->record < 0 || want->record >= POP_RECORDS ||
            one->kind == pop_records[want->record].kind);
}

/* Exactly what is expected is found, whatever the order. */
static bool is_found(const scene *s, const damage *d, const found *f)
{
    const size_t expected = d->sights[1].table == NULL ? 1 : 2;

    for (size_t i = 0; i < expected; i++) {
        bool any = false;

        for (size_t j = 0; j < f->count && j < FOUND_MAX; j++)
            any = any || fits(s, &d->sights[i], &f->one[j]);
        if (!any)
            return false;
    }
    return f->count == expected;
}

static credstore_repair_result run_repair(const scene *s)
{
    credstore_repair_result result = {.struct_size = sizeof result};
    credstore_error err;

    life_ok(credstore_repair_indexes(store_of(s), &s->p->w.call, &result, &err));
    return result;
}

static size_t try_damage(scene *s, const damage *d, const char *where)
{
    credstore_repair_result mended = {0};
    size_t wrong = 0;
    found f = {0};

    d->plant(s);
    run_check(s->p, &f);
    if (!is_found(s, d, &f)) {
        print_error("%s: ", where);
        print_found(d->name, &f);
        wrong++;
    }
    if (d->mends) {
        mended = run_repair(s);
        run_check(s->p, &f);
        if (f.count > 0 || mended.added + mended.removed == 0) {
            print_error("%s: not mended: ", where);
            print_found(d->name, &f);
            wrong++;
        }
        mended = run_repair(s);
        wrong += mended.added + mended.removed > 0;
    }
    restore(s);
    return wrong;
}

static void test_damages(void **state)
{
    size_t wrong = 0, tried = 0;

    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++)
        for (int pruned = 0; pruned < 2; pruned++)
            for (size_t i = 0; i < LIFE_COUNT(damages); i++) {
                char where[TEXT];

                if (damages[i].pruned != ANY && damages[i].pruned != pruned)
                    continue;
                snprintf(where, sizeof where, "%s%s", test_engine_names[e],
                         pruned != 0 ? ", pruned" : "");
                wrong += try_damage(&scenes[e][pruned], &damages[i], where);
                tried++;
            }
    printf("DAMAGES sorts=%zu planted=%zu wrong=%zu\n", LIFE_COUNT(damages), tried, wrong);
    assert_int_equal(wrong, 0);
}

/* ---- a sound store ---- */

static void test_sound(void **state)
{
    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++)
        for (int pruned = 0; pruned < 2; pruned++) {
            scene *s = &scenes[e][pruned];
            credstore_check_result result;
            credstore_repair_result mended;
            found f = {0};

            result = run_check(s->p, &f);
            if (f.count > 0)
                print_found("sound", &f);
            assert_int_equal(f.count, 0);
            assert_int_equal(result.values, s->before->count);
            assert_int_equal(f.seen, f.estimated);
            assert_int_equal(result.records, POP_RECORDS);
            assert_true(result.revisions > 10 && result.secrets > 20 && result.audit_entries > 0);
            assert_int_equal(result.stopped + result.secrets_unopened, 0);
            mended = run_repair(s);
            assert_int_equal(mended.added + mended.removed + mended.unreadable, 0);
            assert_int_equal(test_generation(store_of(s)), s->generation); /* wrote nothing */
        }
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void make_many(populated *p, unsigned long count)
{
    const test_kind *books = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    credstore_error err;
    test_patch patch;

    for (unsigned long i = 0; i < count; i++) {
        char id[TEXT];
        const credstore_service_credential_origin origin = {.struct_size = sizeof origin, .id = id};
        const credstore_service_credential_patch credential = {.struct_size = sizeof credential,
                                                               .name = CREDSTORE_TEXT("many")};

        if (i % 2 == 0) {
            const test_at at = {"acme", NULL, NULL};
            const credstore_checkbook_origin any = {.struct_size = sizeof any};

            test_patch_whole(books, &patch, (unsigned)i);
            life_ok(books->create(p->w.t.store, &p->w.call, &at, &any, patch.u.bytes, NULL, &err));
            continue;
        }
        snprintf(id, sizeof id, "many-%lu", i);
        life_ok(credstore_service_credential_create(p->w.t.store, &p->w.call, "acme", "sa-many",
                                                    &origin, &credential, NULL, &err));
    }
}

typedef struct losing {
    size_t count;
    cs_key keys[POP_PAIRS_MAX];
} losing;

static bool note_lost(void *arg, credstore_bytes key, credstore_bytes value)
{
    losing *l = arg;
    cs_key *to = &l->keys[l->count++];

    (void)value;
    memcpy(to->ptr, key.ptr, key.len);
    to->len = key.len;
    return l->count < POP_PAIRS_MAX;
}

/* The beginning of all lists is lost: more than one transaction mends, each in the audit. */
static void repair_many(populated *p)
{
    credstore *store = p->w.t.store;
    const uint64_t generation = test_generation(store);
    const cs_key from = {1, {CS_TABLE_OWNER}}, to = {1, {CS_TABLE_OWNER + 1}};
    credstore_repair_result mended = {.struct_size = sizeof mended};
    losing *l = calloc(1, sizeof *l);
    const cs_scan scan = {.visit = note_lost, .arg = l};
    credstore_error err = {0};
    found f = {0};
    cs_txn txn;

    life_ok(cs_txn_read(store, &txn, &err));
    life_ok(cs_txn_scan(&txn, &from, &to, &scan, &err));
    cs_txn_end(&txn);
    for (size_t i = 0; i < l->count; i++)
        life_raw_del(store, &l->keys[i]);
    life_ok(credstore_repair_indexes(store, &p->w.call, &mended, &err));
    assert_int_equal(mended.added, l->count);
    assert_in_range(test_generation(store) - generation, 2, l->count / 4);
    run_check(p, &f);
    assert_int_equal(f.count, 0);
    free(l);
}

static void test_many(void **state)
{
    const unsigned long count =
        test_number("CREDSTORE_RECORDS", getenv("CREDSTORE_LONG") != NULL ? MANY_LONG : MANY);

    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++) {
        populated *p = pop_open(e, false);
        credstore_check_result result;
        found f = {0};
        double took;

        make_many(p, count);
        took = seconds();
        result = run_check(p, &f);
        took = seconds() - took;
        if (f.count > 0)
            print_found("many", &f);
        assert_int_equal(f.count, 0);
        assert_int_equal(result.records, count + POP_RECORDS);
        assert_true(f.progressed > count / CS_BATCH);
        printf("CHECK %s: %lu records, %lu values in %.2f s: %.0f values/s, %.0f records/s\n",
               test_engine_names[e], (unsigned long)result.records, (unsigned long)result.values,
               took, (double)result.values / took, (double)result.records / took);
        repair_many(p);
        pop_close(p);
    }
}

/* While keys are rotated, and after that. */
static void test_rotated(void **state)
{
    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++) {
        populated *p = pop_open(e, false);
        credstore *store = p->w.t.store;
        credstore_error err;
        found f = {0};

        life_ok(credstore_keys_promote(store, &p->w.call, 0, &err));
        run_check(p, &f);
        assert_int_equal(f.count, 0);
        pop_update(p, POP_BOOK, 7);
        life_ok(credstore_keys_reseal(store, &p->w.call, 0, 0, NULL, NULL, NULL, &err));
        run_check(p, &f);
        if (f.count > 0)
            print_found("rotated", &f);
        assert_int_equal(f.count, 0);
        pop_close(p);
    }
}

/* ---- the call ---- */

static void test_who_may(void **state)
{
    credstore *store = scenes[TEST_MEMORY][0].p->w.t.store;
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_actor admin =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "eve", "acme");
    const credstore_actor member = test_actor(CREDSTORE_ACTOR_USER, 0, "eve", "acme");
    const credstore_actor *const refused[] = {&admin, &member};
    credstore_call call = test_call(&system);
    credstore_error err;

    (void)state;
    life_ok(credstore_check(store, &call, NULL, NULL, &err));
    life_ok(credstore_repair_indexes(store, &call, NULL, &err));
    for (size_t i = 0; i < LIFE_COUNT(refused); i++) {
        call = test_call(refused[i]);
        life_fails(CREDSTORE_E_FORBIDDEN, credstore_check(store, &call, NULL, NULL, &err));
        life_fails(CREDSTORE_E_FORBIDDEN, credstore_repair_indexes(store, &call, NULL, &err));
    }
    life_fails(CREDSTORE_E_INVALID, credstore_check(store, NULL, NULL, NULL, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_check(NULL, &call, NULL, NULL, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_repair_indexes(NULL, &call, NULL, &err));
}

static void test_arguments(void **state)
{
    const populated *p = scenes[TEST_MEMORY][0].p;
    credstore *store = p->w.t.store;
    credstore_check_options options = {.struct_size = sizeof options, .flags = 1};
    credstore_check_result result = {0};
    credstore_repair_result mended = {0};
    credstore_error err;

    (void)state;
    life_fails(CREDSTORE_E_UNSUPPORTED, credstore_check(store, &p->w.call, &options, NULL, &err));
    options.flags = 0;
    options.struct_size = 0;
    life_fails(CREDSTORE_E_INVALID, credstore_check(store, &p->w.call, &options, NULL, &err));
    options.struct_size = 5;
    life_fails(CREDSTORE_E_INVALID, credstore_check(store, &p->w.call, &options, NULL, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_check(store, &p->w.call, NULL, &result, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_repair_indexes(store, &p->w.call, &mended, &err));
    result.struct_size = offsetof(credstore_check_result, records); /* an older caller's */
    result.records = 77;
    life_ok(credstore_check(store, &p->w.call, NULL, &result, &err));
    assert_true(result.values > 50);
    assert_int_equal(result.records, 77);
}

static void test_stops(void **state)
{
    scene *s = &scenes[TEST_MEMORY][0];
    credstore_check_result result;
    found f = {.stop_finding = 1};

    (void)state;
    swapped_records(s);
    result = run_check(s->p, &f);
    assert_int_equal(f.count, 1);
    assert_int_equal(result.stopped, 1);
    f.stop_finding = 0;
    f.stop_progress = 1;
    result = run_check(s->p, &f);
    assert_int_equal(f.count, 0); /* the audit was first */
    assert_int_equal(f.progressed, 1);
    assert_int_equal(result.stopped, 1);
    restore(s);
}

/* Nothing of the host is called while a transaction is open: it may use the store itself. */
static uint32_t use_store(void *ctx, const credstore_finding *finding)
{
    populated *p = ctx;

    (void)finding;
    pop_update(p, POP_USED, 7);
    return 0;
}

static uint32_t use_store_too(void *ctx, uint64_t seen, uint64_t estimated)
{
    (void)seen;
    (void)estimated;
    return use_store(ctx, NULL);
}

static void test_callbacks_may_write(void **state)
{
    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++) {
        scene *s = &scenes[e][0];
        const credstore_check_options options = {.struct_size = sizeof options,
                                                 .finding = use_store,
                                                 .progress = use_store_too,
                                                 .ctx = s->p};
        credstore_check_result result = {.struct_size = sizeof result};
        credstore_error err;

        swapped_records(s);
        life_ok(credstore_check(store_of(s), &s->p->w.call, &options, &result, &err));
        assert_int_equal(result.findings, 2);
        restore(s);
    }
}

/* ---- a handle that reads and does not reveal ---- */

static void test_reader(void **state)
{
    static const uint8_t other[32] = {42};
    scene *s = &scenes[TEST_LMDB][0];
    credstore_key_source *key = NULL;
    credstore_options options = s->p->w.t.options;
    credstore_check_result result = {.struct_size = sizeof result};
    credstore *reader = NULL;
    credstore_error err;
    uint32_t slot = 0;
    found f = {0};

    (void)state;
    life_ok(credstore_key_bytes(other, sizeof other, &key, &err));
    life_ok(credstore_root_add(store_of(s), &s->p->w.call, key, CREDSTORE_ROOT_READ, &slot, &err));
    options.key = key;
    options.flags = CREDSTORE_OPEN_READ_ONLY;
    life_ok(credstore_open(s->p->w.t.path, &options, &reader, &err));
    part_bit(s);
    life_ok(credstore_check(reader, &s->p->w.call, NULL, &result, &err));
    assert_int_equal(result.findings, 0); /* a secret it cannot look into */
    assert_int_equal(result.secrets_unopened, 1);
    assert_int_equal(result.secrets, 0);
    body_bit(s);
    life_ok(credstore_check(reader, &s->p->w.call, NULL, &result, &err));
    assert_int_equal(result.findings, 1);
    life_fails(CREDSTORE_E_FORBIDDEN, credstore_repair_indexes(reader, &s->p->w.call, NULL, &err));
    credstore_close(reader);
    credstore_key_source_free(key);
    run_check(s->p, &f);
    assert_int_equal(f.count, 1);
    restore(s);
}

/* ---- repair ---- */

/* All indexes at once, in more entries than one transaction takes. */
static void test_repairs_all(void **state)
{
    static const uint8_t tables[] = {CS_TABLE_OWNER,       CS_TABLE_PURGE,  CS_TABLE_END,
                                     CS_TABLE_FINGERPRINT, CS_TABLE_DIGEST, CS_TABLE_TOKEN,
                                     CS_TABLE_ALIAS};

    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++) {
        scene *s = &scenes[e][0];
        const uint64_t before = last_seq(s);
        credstore_repair_result mended;
        size_t lost = 0, ends = 0;
        found f = {0};

        for (size_t i = 0; i < s->before->count; i++)
            if (memchr(tables, s->before->pair[i].key.ptr[0], sizeof tables) != NULL) {
                lose(s, s->before->pair[i].key);
                lost++;
                ends += s->before->pair[i].key.ptr[0] == CS_TABLE_END;
            }
        assert_true(lost > 40);
        mended = run_repair(s);
        /* The label is lost for good, and so are ends that later changes had made pointless. */
        assert_in_range(mended.added, lost - 1 - ends + 1, lost - 1);
        assert_int_equal(mended.removed, 0);
        assert_true(last_seq(s) > before); /* in the audit */
        run_check(s->p, &f);
        if (f.count > 0)
            print_found("repaired", &f);
        assert_int_equal(f.count, 0);
        restore(s);
    }
}

/* What belongs to a record that cannot be read stays as it is. */
static void test_leaves_unreadable(void **state)
{
    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++) {
        scene *s = &scenes[e][0];
        credstore_repair_result mended;

        body_bit(s);
        owner_lost(s);
        mended = run_repair(s);
        assert_int_equal(mended.added + mended.removed, 0);
        assert_int_equal(mended.unreadable, 1);
        restore(s);
    }
}

/* One that was put back is not what the entries are measured by. */
static void test_leaves_put_back(void **state)
{
    scene *s = &scenes[TEST_MEMORY][0];
    credstore_repair_result mended;

    (void)state;
    put_back_with_history(s);
    mended = run_repair(s);
    assert_int_equal(mended.added + mended.removed, 0);
    restore(s);
}

/* It tells nothing of the revision that lay there, whose secret's entry stays. */
static void test_leaves_misplaced(void **state)
{
    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++)
        for (int pruned = 0; pruned < 2; pruned++) {
            scene *s = &scenes[e][pruned];
            credstore_repair_result mended;
            found f = {0};

            history_misplaced(s);
            mended = run_repair(s);
            assert_int_equal(mended.added + mended.removed, 0);
            run_check(s->p, &f);
            assert_int_equal(f.count, 1);
            restore(s);
        }
}

/* What a lost record's history bears out is not taken away, to be put back by the next repair. */
static void test_repairs_lost_once(void **state)
{
    size_t tried = 0;

    (void)state;
    for (test_engine e = 0; e < TEST_ENGINES; e++)
        for (pop_name n = 0; n < POP_RECORDS; n++) {
            scene *s = &scenes[e][0];
            const cs_key first = history_key(s, n, 1);
            cs_buf history = life_raw_get(store_of(s), &first);
            credstore_repair_result mended;
            found f = {0};

            if (history.len > 0) {
                lose(s, record_key(s, n));
                run_repair(s);
                mended = run_repair(s);
                assert_int_equal(mended.added + mended.removed, 0);
                run_check(s->p, &f);
                assert_true(f.count > 0); /* it is lost still */
                restore(s);
                tried++;
            }
            cs_buf_free(&history);
        }
    assert_true(tried >= 2 * TEST_ENGINES);
}

/* What was mended works: the list, the tokens, the leak lookup. */
static void test_repaired_works(void **state)
{
    scene *s = &scenes[TEST_MEMORY][0];
    const credstore_checkbook_page *page = NULL;
    const credstore_leaks *leaks = NULL;
    const test_kind *books = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    credstore_actor actor = {0};
    credstore_error err;
    char secret[TEXT];

    (void)state;
    owner_lost(s);
    digest_lost(s);
    fingerprint_lost(s);
    run_repair(s);
    life_ok(credstore_checkbook_list(store_of(s), &s->p->w.call, NULL, &page, &err));
    assert_int_equal(page->count, 2);
    credstore_free(page);
    life_ok(credstore_api_key_verify(store_of(s), "an-old-key-that-its-owner-keeps", CREDSTORE_NTS,
                                     &actor, &err));
    for (unsigned n = 1; n <= 4; n++) {
        for (size_t i = 0; i < books->kind->field_count; i++)
            if (books->kind->fields[i].type == CS_SECRET)
                test_text(&books->kind->fields[i], n, secret, sizeof secret);
        life_ok(
            credstore_leak_find(store_of(s), &s->p->w.call, secret, CREDSTORE_NTS, &leaks, &err));
        assert_true(leaks->count >= 2); /* both books */
        credstore_free(leaks);
    }
    restore(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),
        cmocka_unit_test(test_damages),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_rotated),
        cmocka_unit_test(test_who_may),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_callbacks_may_write),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_repairs_all),
        cmocka_unit_test(test_leaves_unreadable),
        cmocka_unit_test(test_leaves_put_back),
        cmocka_unit_test(test_leaves_misplaced),
        cmocka_unit_test(test_repairs_lost_once),
        cmocka_unit_test(test_repaired_works),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
