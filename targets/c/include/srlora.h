/*
 * srlora: a frozen vision classifier learns on the device.
 *
 * Made by `targets/c/check --bless` of the sources in targets/c/src; do not change it by hand.
 *
 *     srlora_bundle *bundle = NULL;
 *     srlora_error *error = NULL;
 *     if (srlora_bundle_open("mobilenet.bundle", &bundle, &error) != SRLORA_CODE_OK) {
 *         fprintf(stderr, "%s\n", srlora_error_sentence(error));
 *         srlora_error_free(error);
 *     }
 *
 * Codes. What can fail answers a code. Each comment names the ones to expect, without SRLORA_CODE_.
 *
 * Errors. The last argument may be NULL. Where the code is not SRLORA_CODE_OK, it gets an error that the caller frees.
 *
 * Answers. Out-parameters stand last, before the error. They are written where the code is SRLORA_CODE_OK, and only there.
 *
 * NULL. It is refused with SRLORA_CODE_USAGE, unless a comment says what it means. What only reads answers 0 or NULL for it.
 *
 * Ownership. What a function with `_new` or `_open`, or a `**`, gives, the caller frees with the `_free` of its type, once. A
 * `const char *` that is answered belongs to its handle: do not free it.
 *
 * Text. It is UTF-8 and ends with a zero. Paths are what the operating system takes.
 *
 * Threads. A handle can go to any thread. Calls that take it as `const` may come from several threads at once; the others need it
 * for themselves. Nobody may use a handle while another thread frees it.
 *
 * The library prints nothing, installs no signal handlers, and takes no other allocator than the process has. A panic in it becomes
 * SRLORA_CODE_PANIC.
 */


#ifndef SRLORA_H
#define SRLORA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version of this header; `srlora_version` tells that of the library. Minor versions before 1.0 do not fit each other. */
#define SRLORA_VERSION "0.1.0"
#define SRLORA_VERSION_MAJOR 0
#define SRLORA_VERSION_MINOR 1
#define SRLORA_VERSION_PATCH 0


/**
 * What a call answers. Branch on it; show a person `srlora_error_sentence`.
 */
typedef enum srlora_code {
    /**
     * It is done.
     */
    SRLORA_CODE_OK = 0,
    /**
     * An argument or a setting has a value that cannot be meant; NULL is one.
     */
    SRLORA_CODE_USAGE = 1,
    /**
     * The operating system refused a read or a write.
     */
    SRLORA_CODE_IO = 2,
    /**
     * What was written is whole and counts, but a power cut may still take it: the medium did not promise to keep its name.
     */
    SRLORA_CODE_UNSYNCED = 3,
    /**
     * The output is already there.
     */
    SRLORA_CODE_EXISTS = 4,
    /**
     * A model that is damaged, or of a form that is not taken.
     */
    SRLORA_CODE_MODEL = 5,
    /**
     * An operator of the model that cannot be learned through.
     */
    SRLORA_CODE_UNSUPPORTED_OP = 6,
    /**
     * A place in the model that cannot learn.
     */
    SRLORA_CODE_SITES = 7,
    /**
     * The prepared model does not compute what its file says.
     */
    SRLORA_CODE_CHECK = 8,
    /**
     * A bundle that is damaged, of another version, or not trusted.
     */
    SRLORA_CODE_BUNDLE = 9,
    /**
     * A store that is damaged, empty or of another version.
     */
    SRLORA_CODE_STORE = 10,
    /**
     * A bundle and a store, or a bundle and photos, that do not belong together.
     */
    SRLORA_CODE_MISMATCH = 11,
    /**
     * Photos that nothing can be learned from.
     */
    SRLORA_CODE_DATA = 12,
    /**
     * A photo that cannot be read, or a frame that cannot be one.
     */
    SRLORA_CODE_IMAGE = 13,
    /**
     * A memory limit that the work cannot be done in.
     */
    SRLORA_CODE_MEMORY = 14,
    /**
     * A device that the work cannot be done on.
     */
    SRLORA_CODE_DEVICE = 15,
    /**
     * Another call, or another process, is at work on it.
     */
    SRLORA_CODE_BUSY = 16,
    /**
     * It was asked to stop, and did; the lesson can go on later.
     */
    SRLORA_CODE_STOPPED = 17,
    /**
     * The loss stopped being a number.
     */
    SRLORA_CODE_DIVERGED = 18,
    /**
     * A state that the library itself should have ruled out.
     */
    SRLORA_CODE_INTERNAL = 19,
    /**
     * The library has panicked. Free what the call was given, and make it anew.
     */
    SRLORA_CODE_PANIC = 20,
} srlora_code;

/**
 * Whether a photo is like none of the classes.
 */
typedef enum srlora_unknown {
    /**
     * It is like one of them.
     */
    SRLORA_UNKNOWN_NO = 0,
    /**
     * It is like none of them.
     */
    SRLORA_UNKNOWN_YES = 1,
    /**
     * No photo has shown what is like none of them.
     */
    SRLORA_UNKNOWN_UNTOLD = 2,
} srlora_unknown;

/**
 * What an event is about.
 */
typedef enum srlora_event_kind {
    /**
     * A phase begins: `text` names it, `total` is how many units it has.
     */
    SRLORA_EVENT_KIND_BEGIN = 0,
    /**
     * One more unit of it is done: `done` of `total`.
     */
    SRLORA_EVENT_KIND_ADVANCE = 1,
    /**
     * One training step is done: `step`, `loss`, `accuracy`.
     */
    SRLORA_EVENT_KIND_STEP = 2,
    /**
     * The phase is over.
     */
    SRLORA_EVENT_KIND_END = 3,
    /**
     * What the lesson will take, before it starts: `total` steps, `seconds` at most.
     */
    SRLORA_EVENT_KIND_PLANNED = 4,
    /**
     * Something to know: `text`.
     */
    SRLORA_EVENT_KIND_NOTE = 5,
    /**
     * Something went wrong that does not stop the work: `text`.
     */
    SRLORA_EVENT_KIND_WARNING = 6,
} srlora_event_kind;

/**
 * What a step of a trainer has done.
 */
typedef enum srlora_happened {
    /**
     * Every photo was read, and new classes were imprinted: a first lesson's store is there now, and it classifies.
     */
    SRLORA_HAPPENED_IMPRINTED = 0,
    /**
     * What is known before the first step was found out.
     */
    SRLORA_HAPPENED_READY = 1,
    /**
     * One optimizer step was taken; the observer was told its loss.
     */
    SRLORA_HAPPENED_STEP = 2,
    /**
     * The lesson was judged, and is over.
     */
    SRLORA_HAPPENED_ENDED = 3,
} srlora_happened;

/**
 * How the bytes of a frame are to be read: 8 bits a channel, row by row from the top. The first byte of a pixel comes first.
 */
typedef enum srlora_format {
    /**
     * Red, green, blue.
     */
    SRLORA_FORMAT_RGB = 1,
    /**
     * Blue, green, red: a `cv::Mat` of type `CV_8UC3`.
     */
    SRLORA_FORMAT_BGR = 2,
    /**
     * Red, green, blue, alpha, which is not looked at.
     */
    SRLORA_FORMAT_RGBA = 3,
    /**
     * Blue, green, red, alpha, which is not looked at: a `cv::Mat` of type `CV_8UC4`.
     */
    SRLORA_FORMAT_BGRA = 4,
    /**
     * Blue, green, red, and a byte that is not looked at: what `nvvidconv` gives on a Jetson.
     */
    SRLORA_FORMAT_BGRX = 5,
    /**
     * One channel.
     */
    SRLORA_FORMAT_GRAY8 = 6,
    /**
     * A plane of brightness, and one of colour with a pair U, V for each 2 x 2 pixels; BT.601, narrow range.
     */
    SRLORA_FORMAT_NV12 = 7,
    /**
     * No pixels: `size` bytes of a JPEG or PNG. Width, height and strides are not looked at.
     */
    SRLORA_FORMAT_ENCODED = 8,
} srlora_format;

/**
 * What is trained.
 */
typedef enum srlora_method {
    /**
     * Pairs whose importance is followed, and the head: the default.
     */
    SRLORA_METHOD_SRLORA = 0,
    /**
     * Pairs that start on the principal directions, and the head.
     */
    SRLORA_METHOD_PISSA = 1,
    /**
     * Pairs that start by chance, and the head.
     */
    SRLORA_METHOD_LORA = 2,
    /**
     * The head alone.
     */
    SRLORA_METHOD_HEAD = 3,
    /**
     * Nothing: new classes are imprinted in one pass over the photos.
     */
    SRLORA_METHOD_IMPRINT = 4,
} srlora_method;

/**
 * An opened bundle. It does not change, so any number of threads may use it at once.
 */
typedef struct srlora_bundle srlora_bundle;

/**
 * A bundle with or without a store, ready to classify. Threads may share it: their calls take turns. One for each thread runs at once.
 */
typedef struct srlora_classifier srlora_classifier;

/**
 * What went wrong. The caller owns it; any thread may read and free it.
 */
typedef struct srlora_error srlora_error;

/**
 * What a lesson learns from, and its settings. One thread at a time sets them.
 */
typedef struct srlora_lesson srlora_lesson;

/**
 * Photos, each with its class. One thread at a time adds to them.
 */
typedef struct srlora_photos srlora_photos;

/**
 * What a classifier says of a photo. It does not change, so any number of threads may read it at once.
 */
typedef struct srlora_prediction srlora_prediction;

/**
 * What came of a lesson. It does not change, so any number of threads may read it at once.
 */
typedef struct srlora_report srlora_report;

/**
 * A store as it was when it was opened, or last changed through this handle. It holds nothing locked. Threads may read it at once;
 * `srlora_store_rollback` and `srlora_store_forget` need it for themselves.
 */
typedef struct srlora_store srlora_store;

/**
 * One lesson, held in the hand. One thread runs it; others may stop it meanwhile. It holds the store locked until it is freed.
 */
typedef struct srlora_trainer srlora_trainer;

/**
 * One photo, in memory of the caller's. It is read during the call that takes it, and not after. Set what is not needed to 0.
 */
typedef struct srlora_frame {
    /**
     * `sizeof(srlora_frame)`.
     */
    size_t struct_size;
    /**
     * One of `srlora_format`.
     */
    uint32_t format;
    /**
     * Pixels of a row.
     */
    uint32_t width;
    /**
     * Rows.
     */
    uint32_t height;
    /**
     * The first byte.
     */
    const uint8_t *data;
    /**
     * Bytes that can be read from `data` on.
     */
    size_t size;
    /**
     * Bytes from the beginning of a row to that of the next one: `step` of OpenCV, `rowstride` or `GstVideoMeta.stride` of GStreamer. 0:
     * rows without a gap.
     */
    size_t stride;
    /**
     * NV12 alone: the first byte of the plane of colour. NULL: it follows in `data`, after `height` rows.
     */
    const uint8_t *chroma;
    /**
     * NV12 alone: bytes that can be read from `chroma` on.
     */
    size_t chroma_size;
    /**
     * NV12 alone: the stride of the plane of colour. 0: that of the plane of brightness, rounded up to a whole pair.
     */
    size_t chroma_stride;
} srlora_frame;

/**
 * What a lesson tells on the way. It and its text live until the observer returns.
 */
typedef struct srlora_event {
    /**
     * What it is about.
     */
    enum srlora_event_kind kind;
    /**
     * The phase, or what there is to know, in UTF-8; NULL where there is none.
     */
    const char *text;
    /**
     * Units of the phase that are done.
     */
    uint64_t done;
    /**
     * Units of the phase in all.
     */
    uint64_t total;
    /**
     * The number of the step, from 1.
     */
    uint64_t step;
    /**
     * Mean cross-entropy of its batch.
     */
    float loss;
    /**
     * Share of its batch that was classified right before the update.
     */
    double accuracy;
    /**
     * Time of the whole lesson, as planned.
     */
    double seconds;
} srlora_event;

/**
 * Is told of events, on the thread that runs the lesson. Answers whether the lesson goes on: `false` stops it, with a checkpoint. It
 * must not free the trainer, nor let an exception out.
 */
typedef bool (*srlora_observer)(const struct srlora_event *event, void *userdata);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that is loaded, as `SRLORA_VERSION` is that of the header. Lives as long as the library.
 */
const char *srlora_version(void);

/**
 * Frees an error. NULL is none.
 */
void srlora_error_free(struct srlora_error *error);

/**
 * Its code; `SRLORA_CODE_OK` for NULL.
 */
enum srlora_code srlora_error_code(const struct srlora_error *error);

/**
 * What is wrong, where, and what to do, as one sentence in UTF-8: subject, colon, message. Lives as long as the error; NULL for NULL.
 */
const char *srlora_error_sentence(const struct srlora_error *error);

/**
 * The file, argument or setting at fault alone. Lives as long as the error; NULL for NULL.
 */
const char *srlora_error_subject(const struct srlora_error *error);

/**
 * What is wrong with it alone. Lives as long as the error; NULL for NULL.
 */
const char *srlora_error_message(const struct srlora_error *error);

/**
 * Opens the bundle at `file`, which `srlora pack` has made. A signature is not looked at.
 *
 * Codes: `IO`, `BUNDLE`. Free it with `srlora_bundle_free`.
 */
enum srlora_code srlora_bundle_open(const char *file, struct srlora_bundle **bundle, struct srlora_error **error);

/**
 * The same, of a bundle that the owner of a key has signed. `key` is a file with the Ed25519 public key in PEM. A bundle of a release
 * before `min_release` is refused; 0 takes any. Nothing in the bundle is believed before that.
 *
 * Codes: those of `srlora_bundle_open`, with `BUNDLE` where it is not signed, by another, or of an earlier release; `USAGE` where the
 * file holds no such key.
 */
enum srlora_code srlora_bundle_open_trusted(const char *file,
                                            const char *key,
                                            uint64_t min_release,
                                            struct srlora_bundle **bundle,
                                            struct srlora_error **error);

/**
 * Frees a bundle; NULL is none. What was made of it goes on without.
 */
void srlora_bundle_free(struct srlora_bundle *bundle);

/**
 * The model's own classes; 0 where it has none, and for NULL.
 */
size_t srlora_bundle_label_count(const struct srlora_bundle *bundle);

/**
 * The name of one of them, in UTF-8. Lives as long as the bundle; NULL where there is none.
 */
const char *srlora_bundle_label(const struct srlora_bundle *bundle, size_t index);

/**
 * Values that `srlora_classifier_embed` gives; 0 for NULL.
 */
size_t srlora_bundle_feature_count(const struct srlora_bundle *bundle);

/**
 * Width of the network's input, to which frames are brought; 0 for NULL.
 */
size_t srlora_bundle_input_width(const struct srlora_bundle *bundle);

/**
 * Height of the network's input, to which frames are brought; 0 for NULL.
 */
size_t srlora_bundle_input_height(const struct srlora_bundle *bundle);

/**
 * The sha256 over all that it holds, in lowercase hex. Lives as long as the bundle; NULL for NULL.
 */
const char *srlora_bundle_sha256(const struct srlora_bundle *bundle);

/**
 * Opens the store in `folder`, which a lesson has made: the newest generation that is whole.
 *
 * Codes: `IO` where there is no such folder, `STORE` where it holds no good generation. Free it with `srlora_store_free`.
 */
enum srlora_code srlora_store_open(const char *folder,
                                   struct srlora_store **store,
                                   struct srlora_error **error);

/**
 * Frees a store's handle; NULL is none. What was made of it goes on without, and the folder stays.
 */
void srlora_store_free(struct srlora_store *store);

/**
 * The number of the generation that counts; 0 for NULL.
 */
uint64_t srlora_store_current(const struct srlora_store *store);

/**
 * Generations that are there; 0 for NULL.
 */
size_t srlora_store_generation_count(const struct srlora_store *store);

/**
 * The number of one of them, the newest at 0; 0 where there is none.
 */
uint64_t srlora_store_generation(const struct srlora_store *store, size_t index);

/**
 * Lessons that were kept aside; 0 for NULL. A rollback can take them all the same.
 */
size_t srlora_store_aside_count(const struct srlora_store *store);

/**
 * The number of one of them, the newest at 0; 0 where there is none.
 */
uint64_t srlora_store_aside(const struct srlora_store *store, size_t index);

/**
 * Classes that the current generation knows; 0 for NULL.
 */
size_t srlora_store_class_count(const struct srlora_store *store);

/**
 * The name of one of them, in UTF-8. Lives until the store is changed or freed; NULL where there is none.
 */
const char *srlora_store_class(const struct srlora_store *store, size_t index);

/**
 * What to tell the user where newer generations are damaged and an earlier one was opened; NULL where all is well. Lives until the
 * store is changed or freed.
 */
const char *srlora_store_warning(const struct srlora_store *store);

/**
 * Takes back the last lesson (`to` is 0), goes back to generation `to`, or takes the lesson that was kept aside under that number. What
 * it holds becomes a new generation, so that this can be undone, too. A lesson under way in the store is let go.
 *
 * `number`, which may be NULL, gets the number whose contents now count. A classifier that was made before goes on as it was.
 *
 * Codes: `USAGE` where there is no such generation or nothing to go back to; `BUSY` where another writer is at work; `IO`; `UNSYNCED`:
 * it counts, and a power cut may still take it.
 */
enum srlora_code srlora_store_rollback(struct srlora_store *store,
                                       uint64_t to,
                                       uint64_t *number,
                                       struct srlora_error **error);

/**
 * Takes a class out: it leaves the head, the class means and the examples. What the pairs have learned with it stays, and older
 * generations still know it. `srlora_store_rollback` undoes it, without the examples.
 *
 * Codes: `USAGE` where there is no such class, or no other; `BUSY`, `IO`, `UNSYNCED` as of `srlora_store_rollback`.
 */
enum srlora_code srlora_store_forget(struct srlora_store *store,
                                     const char *class_name,
                                     struct srlora_error **error);

/**
 * Frees a prediction; NULL is none.
 */
void srlora_prediction_free(struct srlora_prediction *prediction);

/**
 * Guesses in it; 0 for NULL.
 */
size_t srlora_prediction_count(const struct srlora_prediction *prediction);

/**
 * The class of a guess, in UTF-8, the best at 0. Lives as long as the prediction; NULL where there is none.
 */
const char *srlora_prediction_label(const struct srlora_prediction *prediction, size_t index);

/**
 * How likely that class is, from 0 to 1; 0 where there is none.
 */
float srlora_prediction_probability(const struct srlora_prediction *prediction, size_t index);

/**
 * How likely the best guess is, where photos left out have shown how sure the store may be; NaN where none have, and for NULL.
 */
float srlora_prediction_confidence(const struct srlora_prediction *prediction);

/**
 * Whether the photo is like none of the classes.
 */
enum srlora_unknown srlora_prediction_unknown(const struct srlora_prediction *prediction);

/**
 * Time that it took, in milliseconds; 0 for NULL.
 */
double srlora_prediction_milliseconds(const struct srlora_prediction *prediction);

/**
 * Makes a classifier of a bundle and what `store` has learned; with NULL for a store the model's own classifier answers. Neither is
 * needed any more afterwards.
 *
 * Codes: `MISMATCH` for a store of another bundle, or a bundle without labels and no store. Free it with `srlora_classifier_free`.
 */
enum srlora_code srlora_classifier_new(const struct srlora_bundle *bundle,
                                       const struct srlora_store *store,
                                       struct srlora_classifier **classifier,
                                       struct srlora_error **error);

/**
 * Frees a classifier; NULL is none.
 */
void srlora_classifier_free(struct srlora_classifier *classifier);

/**
 * Classes that it knows; 0 for NULL.
 */
size_t srlora_classifier_class_count(const struct srlora_classifier *classifier);

/**
 * The name of one of them, in UTF-8, in the order of `srlora_classifier_probabilities`. Lives as long as the classifier; NULL where
 * there is none.
 */
const char *srlora_classifier_class(const struct srlora_classifier *classifier,
                                    size_t index);

/**
 * Whether photos have shown what is like none of the classes, so that `srlora_prediction_unknown` tells.
 */
bool srlora_classifier_tells_unknown(const struct srlora_classifier *classifier);

/**
 * The `top` likeliest classes of a frame, or all where there are fewer.
 *
 * Codes: `IMAGE` for a frame that cannot be a photo; `USAGE`. Free the prediction with `srlora_prediction_free`.
 */
enum srlora_code srlora_classifier_predict(const struct srlora_classifier *classifier,
                                           const struct srlora_frame *frame,
                                           size_t top,
                                           struct srlora_prediction **prediction,
                                           struct srlora_error **error);

/**
 * The same, of a JPEG or PNG file.
 *
 * Codes: `IMAGE` where it cannot be read; `USAGE`.
 */
enum srlora_code srlora_classifier_predict_file(const struct srlora_classifier *classifier,
                                                const char *file,
                                                size_t top,
                                                struct srlora_prediction **prediction,
                                                struct srlora_error **error);

/**
 * How likely each class is, from 0 to 1, in the order of `srlora_classifier_class`. `values` has room for `capacity` numbers; the first
 * `srlora_classifier_class_count` of them are written.
 *
 * Codes: those of `srlora_classifier_predict`; `USAGE` where there is no room for all.
 */
enum srlora_code srlora_classifier_probabilities(const struct srlora_classifier *classifier,
                                                 const struct srlora_frame *frame,
                                                 size_t capacity,
                                                 float *values,
                                                 struct srlora_error **error);

/**
 * The features of a frame, which the head reads: `srlora_bundle_feature_count` numbers. `values` has room for `capacity` of them.
 *
 * Codes: those of `srlora_classifier_predict`; `USAGE` where there is no room for all, or without a store: the model's own classifier
 * has no features to give.
 */
enum srlora_code srlora_classifier_embed(const struct srlora_classifier *classifier,
                                         const struct srlora_frame *frame,
                                         size_t capacity,
                                         float *values,
                                         struct srlora_error **error);

/**
 * No photos yet. Free them with `srlora_photos_free`.
 */
struct srlora_photos *srlora_photos_new(void);

/**
 * Frees photos; NULL is none. A lesson that was made of them keeps its own.
 */
void srlora_photos_free(struct srlora_photos *photos);

/**
 * How many there are; 0 for NULL.
 */
size_t srlora_photos_count(const struct srlora_photos *photos);

/**
 * Adds a frame as a photo of `class_name`, a name in UTF-8; a class that is new comes with it. The pixels are copied.
 *
 * Codes: `IMAGE` for a frame that cannot be a photo; `DATA` for a name that no folder could have; `USAGE`. Nothing is added then.
 */
enum srlora_code srlora_photos_add(struct srlora_photos *photos,
                                   const char *class_name,
                                   const struct srlora_frame *frame,
                                   struct srlora_error **error);

/**
 * Adds a JPEG or PNG file as a photo of `class_name`. The file is read when the lesson runs.
 *
 * Codes: `DATA` for a name that no folder could have; `USAGE`.
 */
enum srlora_code srlora_photos_add_file(struct srlora_photos *photos,
                                        const char *class_name,
                                        const char *file,
                                        struct srlora_error **error);

/**
 * A lesson from a folder that has a folder of photos for each class. Settings are the program's until they are set.
 *
 * Codes: `USAGE`. What is in the folder is looked at by `srlora_trainer_new`. Free it with `srlora_lesson_free`.
 */
enum srlora_code srlora_lesson_new_from_folder(const char *folder,
                                               struct srlora_lesson **lesson,
                                               struct srlora_error **error);

/**
 * A lesson from photos in memory. What is added to them later is not part of it.
 *
 * Codes: `USAGE`. Free it with `srlora_lesson_free`.
 */
enum srlora_code srlora_lesson_new_from_photos(const struct srlora_photos *photos,
                                               struct srlora_lesson **lesson,
                                               struct srlora_error **error);

/**
 * Frees a lesson's settings; NULL is none. A trainer that was made of them keeps its own.
 */
void srlora_lesson_free(struct srlora_lesson *lesson);

/**
 * What is trained: one of `srlora_method`. `USAGE` for anything else.
 */
enum srlora_code srlora_lesson_set_method(struct srlora_lesson *lesson, uint32_t method);

/**
 * How long it takes, in passes over the photos: 15 unless set. Takes the place of `srlora_lesson_set_steps`.
 */
enum srlora_code srlora_lesson_set_epochs(struct srlora_lesson *lesson, uint32_t epochs);

/**
 * How long it takes, in steps. Takes the place of `srlora_lesson_set_epochs`.
 */
enum srlora_code srlora_lesson_set_steps(struct srlora_lesson *lesson, uint32_t steps);

/**
 * Photos in a step: 16 unless set.
 */
enum srlora_code srlora_lesson_set_batch(struct srlora_lesson *lesson, size_t batch);

/**
 * Learning rate of the pairs; unless set, it follows from the method and the number of photos.
 */
enum srlora_code srlora_lesson_set_lr(struct srlora_lesson *lesson, float lr);

/**
 * Learning rate of the head: 0.001 unless set.
 */
enum srlora_code srlora_lesson_set_head_lr(struct srlora_lesson *lesson, float head_lr);

/**
 * What decides order and chance: 0 unless set. The same seed gives the same bytes.
 */
enum srlora_code srlora_lesson_set_seed(struct srlora_lesson *lesson, uint64_t seed);

/**
 * Threads that photos are run on: 1 unless set. The result does not depend on them.
 */
enum srlora_code srlora_lesson_set_threads(struct srlora_lesson *lesson, size_t threads);

/**
 * Random crops and mirror images: off unless set.
 */
enum srlora_code srlora_lesson_set_augment(struct srlora_lesson *lesson, bool augment);

/**
 * Bytes of examples that the store keeps for later lessons: 2 MiB unless set, 0 for none.
 */
enum srlora_code srlora_lesson_set_replay(struct srlora_lesson *lesson, uint64_t replay);

/**
 * The largest resident size that the process may reach, in bytes; 0 for no limit.
 */
enum srlora_code srlora_lesson_set_ram_limit(struct srlora_lesson *lesson, uint64_t ram_limit);

/**
 * Whether what a photo has become half-way through the network is kept in a file beside the store: on unless set. Off, each step
 * computes it again.
 */
enum srlora_code srlora_lesson_set_cache(struct srlora_lesson *lesson,
                                         bool cache);

/**
 * Holds this share of each class back to measure accuracy on, from 0 to 1.
 */
enum srlora_code srlora_lesson_set_val_split(struct srlora_lesson *lesson, double val_split);

/**
 * Goes on from what the store has learned; unless set, the store must not be there yet.
 */
enum srlora_code srlora_lesson_set_further(struct srlora_lesson *lesson, bool further);

/**
 * Goes on with a lesson that was stopped, to the same bytes; where none was, it begins.
 */
enum srlora_code srlora_lesson_set_resume(struct srlora_lesson *lesson, bool resume);

/**
 * Seconds between two checkpoints, and so the most work that a power cut can cost: 60 unless set, 0 for one after every step. `USAGE`
 * for what is no such number.
 */
enum srlora_code srlora_lesson_set_checkpoint(struct srlora_lesson *lesson,
                                              double seconds);

/**
 * Measures accuracy on the photos of another folder.
 */
enum srlora_code srlora_lesson_set_val_folder(struct srlora_lesson *lesson, const char *folder);

/**
 * Measures accuracy on other photos in memory.
 */
enum srlora_code srlora_lesson_set_val_photos(struct srlora_lesson *lesson, const struct srlora_photos *photos);

/**
 * Frees a report; NULL is none.
 */
void srlora_report_free(struct srlora_report *report);

/**
 * Steps that were taken; 0 for NULL.
 */
uint64_t srlora_report_steps(const struct srlora_report *report);

/**
 * The generation that is current now; 0 for NULL.
 */
uint64_t srlora_report_generation(const struct srlora_report *report);

/**
 * The number under which the lesson was kept aside, as what was there before is better; 0 where it became current, and for NULL.
 */
uint64_t srlora_report_aside(const struct srlora_report *report);

/**
 * Photos that were trained on; 0 for NULL.
 */
size_t srlora_report_train_images(const struct srlora_report *report);

/**
 * Mean cross-entropy over the last epoch; NaN where nothing was trained, and for NULL.
 */
float srlora_report_train_loss(const struct srlora_report *report);

/**
 * Accuracy on photos held back, from 0 to 1; NaN where there were none, and for NULL.
 */
double srlora_report_val_accuracy(const struct srlora_report *report);

/**
 * All of it: the JSON object that `srlora train --json` prints, in UTF-8. Lives as long as the report; NULL for NULL.
 */
const char *srlora_report_json(const struct srlora_report *report);

/**
 * Plans a lesson that is kept in the folder `store`: finds the photos, takes up what the store has, and finds room in memory. Nothing
 * is trained yet. Bundle and lesson are not needed any more afterwards.
 *
 * Codes: `USAGE`, `EXISTS`, `IO`, `DATA`, `STORE`, `MISMATCH`, `MEMORY`, `BUSY`. Free it with `srlora_trainer_free`.
 */
enum srlora_code srlora_trainer_new(const struct srlora_bundle *bundle,
                                    const struct srlora_lesson *lesson,
                                    const char *store,
                                    struct srlora_trainer **trainer,
                                    struct srlora_error **error);

/**
 * Frees a trainer; NULL is none. What was learned since the last checkpoint is lost; a lesson with `srlora_lesson_set_resume` goes on
 * from there.
 */
void srlora_trainer_free(struct srlora_trainer *trainer);

/**
 * Steps that the lesson takes; 0 for NULL.
 */
uint64_t srlora_trainer_steps(const struct srlora_trainer *trainer);

/**
 * Seconds that it will take at most, reading photos not counted; 0 for NULL.
 */
double srlora_trainer_seconds(const struct srlora_trainer *trainer);

/**
 * The largest resident size that the process will have, in bytes; 0 where the system does not tell, and for NULL.
 */
uint64_t srlora_trainer_peak_bytes(const struct srlora_trainer *trainer);

/**
 * Does all that there is left to do. `observer` may be NULL; `userdata` is handed to it as it is.
 *
 * Codes: `STOPPED` where it was stopped, with a checkpoint; `DIVERGED`, `DATA`, `IO`; `UNSYNCED`: all is learned, and a power cut may
 * still take it; `BUSY` where another call is at work on it; `USAGE` after an error. Free the report with `srlora_report_free`.
 */
enum srlora_code srlora_trainer_run(const struct srlora_trainer *trainer,
                                    srlora_observer observer,
                                    void *userdata,
                                    struct srlora_report **report,
                                    struct srlora_error **error);

/**
 * Does the next thing that there is to do, and says what it was: for a device that has other work between steps.
 *
 * Codes: those of `srlora_trainer_run`. Once it has ended, nothing more is done, and `srlora_trainer_run` gives the report.
 */
enum srlora_code srlora_trainer_step(const struct srlora_trainer *trainer,
                                     srlora_observer observer,
                                     void *userdata,
                                     enum srlora_happened *happened,
                                     struct srlora_error **error);

/**
 * Stops the lesson as soon as it can, with a checkpoint: the call at work on it answers `STOPPED`. Any thread may call it, at any time
 * before the trainer is freed, and so may a signal handler. NULL is none.
 */
void srlora_trainer_stop(const struct srlora_trainer *trainer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SRLORA_H */
