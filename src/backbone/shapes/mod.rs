//! The shape of every tensor of a file, worked out before anything is planned or allocated.
//!
//! In: a graph, the shape of its image, its maps and its budget. Out: the same graph with every integer in it a constant, or the
//! node that is not taken. tract is given only what has passed here: operators of a list, with operands that fit, none of whose
//! outputs is larger than the limits allow. A plan is built for one concrete image size, so every shape is a list of numbers; and
//! since what computes shapes in a file computes with integers that follow from them, all integers are known as well. They are put
//! into the graph as constants, and their nodes taken out: tract sees floats alone.

mod along;
mod call;
mod elementwise;
mod fact;
mod indexed;
mod integers;
mod lower;
mod moves;
mod numbers;
#[cfg(test)]
mod tests;
mod walk;
mod windows;

pub(crate) use walk::settle;
