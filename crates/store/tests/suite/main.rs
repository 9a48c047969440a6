//! What every engine must do, and what a store must survive. One binary: linking costs more than running.

mod beds;
mod cases;
mod child;
mod controllers;
mod damage;
mod faults;
mod kinds;
mod model;
mod postgres;
