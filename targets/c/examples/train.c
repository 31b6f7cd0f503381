/* Learns two classes from frames in memory, as a camera gives them, and tells how far it is.
 *
 *     train BUNDLE STORE
 *
 * Ctrl-C stops it with a checkpoint. The same command goes on from there, to the same bytes.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <srlora.h>

static srlora_trainer *trainer;

/* It may be called from a signal handler; nothing else of the library may. */
static void on_interrupt(int signal) {
    (void)signal;
    srlora_trainer_stop(trainer);
}

static bool tell(const srlora_event *event, void *userdata) {
    const char *interrupt_at = userdata;
    switch (event->kind) {
        case SRLORA_EVENT_KIND_PLANNED:
            printf("%llu steps, %.1f s at most\n", (unsigned long long)event->total, event->seconds);
            break;
        case SRLORA_EVENT_KIND_STEP:
            if (event->step % 10 == 0) {
                printf("step %llu: loss %.3f, %.0f %% right\n", (unsigned long long)event->step, (double)event->loss,
                       100.0 * event->accuracy);
            }
            /* As if somebody had pressed Ctrl-C, so that it can be tried out. */
            if (interrupt_at != NULL && event->step == strtoull(interrupt_at, NULL, 10)) raise(SIGINT);
            break;
        case SRLORA_EVENT_KIND_NOTE:
        case SRLORA_EVENT_KIND_WARNING:
            printf("%s\n", event->text);
            break;
        default:
            break;
    }
    return true; /* false stops the lesson, too */
}

/* Blue, green, red; rows that are padded to 192 bytes. */
static srlora_code add(srlora_photos *photos, unsigned seed, bool is_bright, srlora_error **error) {
    enum { WIDTH = 50, HEIGHT = 40, STRIDE = 192 };
    static uint8_t buffer[STRIDE * HEIGHT];
    for (size_t at = 0; at < sizeof buffer; at++) {
        buffer[at] = (uint8_t)((is_bright ? 150 : 30) + at * (seed + 3) % 61);
    }
    const srlora_frame frame = {
        .struct_size = sizeof frame,
        .format = SRLORA_FORMAT_BGR,
        .width = WIDTH,
        .height = HEIGHT,
        .data = buffer,
        .size = sizeof buffer,
        .stride = STRIDE,
    };
    return srlora_photos_add(photos, is_bright ? "bright" : "dark", &frame, error);
}

/* A lesson of 40 frames; NULL with an error. */
static srlora_lesson *lesson_of_frames(srlora_error **error) {
    srlora_photos *photos = srlora_photos_new();
    srlora_lesson *lesson = NULL;
    srlora_code code = SRLORA_CODE_OK;
    for (unsigned seed = 0; seed < 40 && code == SRLORA_CODE_OK; seed++) {
        code = add(photos, seed / 2, seed % 2 == 0, error);
    }
    if (code == SRLORA_CODE_OK && srlora_lesson_new_from_photos(photos, &lesson, error) == SRLORA_CODE_OK) {
        srlora_lesson_set_epochs(lesson, 10);
        srlora_lesson_set_resume(lesson, true);
    }
    srlora_photos_free(photos);
    return lesson;
}

int main(int count, char **arguments) {
    if (count != 3 && count != 4) {
        fprintf(stderr, "usage: train BUNDLE STORE [STEP AT WHICH IT INTERRUPTS ITSELF]\n");
        return EXIT_FAILURE;
    }
    srlora_bundle *bundle = NULL;
    srlora_report *report = NULL;
    srlora_error *error = NULL;
    srlora_code code = srlora_bundle_open(arguments[1], &bundle, &error);
    srlora_lesson *lesson = code == SRLORA_CODE_OK ? lesson_of_frames(&error) : NULL;
    if (lesson != NULL) code = srlora_trainer_new(bundle, lesson, arguments[2], &trainer, &error);
    if (trainer != NULL) {
        signal(SIGINT, on_interrupt);
        code = srlora_trainer_run(trainer, tell, count == 4 ? arguments[3] : NULL, &report, &error);
        signal(SIGINT, SIG_DFL);
    }
    if (report != NULL) {
        printf("generation %llu is current\n", (unsigned long long)srlora_report_generation(report));
    } else {
        fprintf(stderr, "%s\n", srlora_error_sentence(error));
    }
    const int result = report != NULL ? EXIT_SUCCESS : code == SRLORA_CODE_STOPPED ? 130 : EXIT_FAILURE;
    srlora_error_free(error);
    srlora_report_free(report);
    srlora_trainer_free(trainer);
    srlora_lesson_free(lesson);
    srlora_bundle_free(bundle);
    return result;
}
