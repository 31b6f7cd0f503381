"""Apps whose devices miss rounds."""
