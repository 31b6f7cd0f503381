//! The tensors of a PEFT folder, sorted by what they are for.

use regex_lite::Regex;

use super::factors::Factors;
use super::folder::{Config, PREFIX, Tensor, WEIGHTS};
use super::modules::{Module, Modules};
use crate::adapter::Adapter;
use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};

/// Largest factor of B A: alpha is some times the rank, at most.
const MOST_SCALE: f32 = 1e4;

/// The tensors of a folder, by what they are for.
pub(super) struct Adapters<'c> {
    config: &'c Config,
    alphas: Vec<(Regex, f64)>,
    /// Path, A and B of each module.
    modules: Vec<(String, Option<Tensor>, Option<Tensor>)>,
    head: [Option<Tensor>; 2],
}

impl<'c> Adapters<'c> {
    /// # Errors
    /// A sentence, where a tensor is of no module that is known here.
    pub(super) fn sort(
        config: &'c Config,
        tensors: Vec<Tensor>,
        known: &Modules,
    ) -> core::result::Result<Self, String> {
        let pattern = |(key, alpha): (&String, &f64)| {
            let whole = Regex::new(&format!("^(?:.*\\.)?(?:{key})$"));
            whole
                .map(|regex| (regex, *alpha))
                .map_err(|_| format!("has an `alpha_pattern` beside it that cannot be read: {}", key.escape_debug()))
        };
        let alphas = config.alpha_pattern.iter().map(pattern).collect::<core::result::Result<_, _>>()?;
        let mut sorted = Adapters { config, alphas, modules: Vec::new(), head: [None, None] };
        for tensor in tensors {
            sorted.put(tensor, known)?;
        }
        Ok(sorted)
    }

    fn put(&mut self, tensor: Tensor, known: &Modules) -> core::result::Result<(), String> {
        let name = tensor.name.clone();
        let path =
            name.strip_prefix(PREFIX).ok_or_else(|| format!("has a tensor `{name}`, which is none of PEFT's"))?;
        let side = |side| [format!(".lora_{side}.weight"), format!(".lora_{side}.default.weight")];
        let module = |side| side_of(path, &side);
        let (path, is_b) = match (module(side('A')), module(side('B'))) {
            (Some(path), _) => (path, false),
            (_, Some(path)) => (path, true),
            _ => return self.put_head(path, tensor, known),
        };
        if known.sites.iter().all(|module| module.path != path) {
            return Err(format!(
                "has pairs for the module `{path}`, which is no site of the bundle: pack with an option `sites` that matches it, or name it in option `map`"
            ));
        }
        let at = self.modules.iter().position(|(other, ..)| other == path).unwrap_or_else(|| {
            self.modules.push((path.to_owned(), None, None));
            self.modules.len() - 1
        });
        let place = if is_b { &mut self.modules[at].2 } else { &mut self.modules[at].1 };
        *place = Some(tensor);
        Ok(())
    }

    fn put_head(&mut self, path: &str, tensor: Tensor, known: &Modules) -> core::result::Result<(), String> {
        let rest = path
            .strip_prefix(known.head.as_str())
            .map(|rest| rest.strip_prefix(".modules_to_save.default").unwrap_or(rest));
        match rest {
            Some(".weight") => self.head[0] = Some(tensor),
            Some(".bias") => self.head[1] = Some(tensor),
            _ => {
                return Err(format!(
                    "has a tensor `{}` that cannot be taken: only lora_A, lora_B and the classifier `{}` can; if that is the classifier, name it as \
                     `head` in option `map`",
                    path.escape_debug(),
                    known.head
                ));
            }
        }
        Ok(())
    }

    /// The names of the head's rows.
    pub(super) fn classes(&self, bundle: &Bundle, named: Option<Vec<String>>) -> Result<Vec<String>> {
        let rows = self.head[0].as_ref().map(|weight| weight.shape.first().copied().unwrap_or(0));
        let Some(rows) = rows else {
            let message = "has no classifier: train it with `modules_to_save`";
            return Err(Error::new(ErrorKind::Mismatch, WEIGHTS, message));
        };
        let own = bundle.labels.clone().filter(|labels| labels.len() == rows);
        let classes = named.or(own).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                "option `labels`",
                format!("is needed: the folder does not name its {rows} classes"),
            )
        })?;
        if classes.len() != rows {
            let message = format!("names {} classes, and the folder's classifier has {rows}", classes.len());
            return Err(Error::new(ErrorKind::Usage, "option `labels`", message));
        }
        Ok(classes)
    }

    pub(super) fn head_into(&mut self, adapter: &mut Adapter, features: usize) -> core::result::Result<(), String> {
        let [weight, bias] = [self.head[0].take(), self.head[1].take()];
        let weight = weight.ok_or("has no classifier")?;
        let rows = adapter.head.classes();
        if weight.values.len() != rows * features {
            return Err(format!(
                "has a classifier of shape {:?}, and the bundle's features have {features} values: it is of another network",
                weight.shape
            ));
        }
        let bias = bias.map_or_else(|| vec![0.0; rows], |bias| bias.values);
        if bias.len() != rows {
            return Err(format!("has a classifier of {rows} rows and {} biases", bias.len()));
        }
        adapter.head.values_mut().iter_mut().zip(weight.values.iter().chain(&bias)).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    /// The product of a module, with all of its factors.
    pub(super) fn pairs_of(
        &mut self,
        module: &Module,
        [out_dim, in_dim]: [usize; 2],
    ) -> core::result::Result<Option<Factors>, String> {
        let Some(at) = self.modules.iter().position(|(path, ..)| *path == module.path) else { return Ok(None) };
        let (path, a, b) = self.modules.swap_remove(at);
        let (Some(a), Some(b)) = (a, b) else { return Err(format!("has one of lora_A and lora_B of `{path}` alone")) };
        let rank = a.shape.first().copied().unwrap_or(0);
        let is = |tensor: &Tensor, width: usize| rank.checked_mul(width) == Some(tensor.values.len());
        let fits = is(&a, in_dim) && is(&b, out_dim) && b.shape.get(1) == Some(&rank);
        if rank == 0 || !fits || b.shape.first() != Some(&out_dim) {
            return Err(format!(
                "has `{path}` with lora_A {:?} and lora_B {:?}, which do not fit its weight of {out_dim} x {in_dim}",
                a.shape, b.shape
            ));
        }
        // PEFT takes the first in the order of the file, which is not kept here.
        let mut named = self.alphas.iter().filter(|(pattern, _)| pattern.is_match(&path)).map(|(_, alpha)| *alpha);
        let alpha = named.next().unwrap_or(self.config.lora_alpha);
        if named.any(|other| other != alpha) {
            return Err(format!("has `{path}`, for which `alpha_pattern` has two values; give it one"));
        }
        let share = if self.config.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        let scale = (alpha / share) as f32;
        if scale.is_nan() || scale.abs() > MOST_SCALE {
            return Err(format!("has `{path}` with an alpha of {alpha:e} at rank {rank}, which cannot be meant"));
        }
        let mut b = b.values;
        for (row, at) in b.chunks_exact_mut(rank).zip(0..) {
            let folded = module.scales.get(at).copied().unwrap_or(1.0);
            row.iter_mut().for_each(|b| *b *= scale * folded);
        }
        Ok(Some(Factors { rank, a: a.values, b }))
    }
}

fn side_of<'p>(path: &'p str, ends: &[String; 2]) -> Option<&'p str> {
    ends.iter().find_map(|end| path.strip_suffix(end.as_str()))
}
