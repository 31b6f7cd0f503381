// A plugin for QEMU's user mode: how many instructions ran, and in which blocks most of them did.
//
// The interface is QEMU's plugin API 1, declared here as far as it is used, because Debian does not install its header.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef struct { const char *target_name; } qemu_info_t;
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*ended_t)(qemu_plugin_id_t, void *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *to, uint64_t add);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended_t, void *);

#define SHOWN __attribute__((visibility("default")))
SHOWN int qemu_plugin_version = 1;

enum { ADD_U64 = 0, MOST = 1 << 20, TOP = 96 };
// A block that is translated again has a place again; the reader adds them up.
static struct { uint64_t at, instructions, runs; } blocks[MOST];
static size_t count;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    if (count == MOST) abort();
    blocks[count].at = qemu_plugin_tb_vaddr(tb);
    blocks[count].instructions = qemu_plugin_tb_n_insns(tb);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &blocks[count].runs, 1);
    count++;
}

static uint64_t work(const void *block) {
    const uint64_t *of = block;
    return of[1] * of[2];
}

static int by_work(const void *a, const void *b) {
    return (work(a) < work(b)) - (work(a) > work(b));
}

static void ended(qemu_plugin_id_t id, void *to) {
    (void)id;
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++) all += work(&blocks[i]);
    qsort(blocks, count, sizeof blocks[0], by_work);
    FILE *file = fopen(to, "w");
    if (!file) abort();
    fprintf(file, "all %llu\n", (unsigned long long)all);
    for (size_t i = 0; i < TOP && i < count; i++)
        fprintf(file, "%llx %llu %llu\n", (unsigned long long)blocks[i].at, (unsigned long long)blocks[i].instructions,
                (unsigned long long)blocks[i].runs);
    fclose(file);
}

// file=PLUGIN,to=FILE
SHOWN int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++)
        if (argv[i][0] == 't' && argv[i][1] == 'o' && argv[i][2] == '=') {
            char *to = malloc(4096);
            snprintf(to, 4096, "%s", argv[i] + 3);
            qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
            qemu_plugin_register_atexit_cb(id, ended, to);
            return 0;
        }
    return 1;
}
